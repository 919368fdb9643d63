"""make_shards: the workers of a Ray cluster make the vectors and FAISS indexes of a generation.

1. Each task embeds a piece of `PIECE_SIZE` passages of a shard, in the same batches as locally.
2. When a shard's pieces are done, a task writes its vectors and its FAISS index into a draft folder.
3. The driver moves the draft's files into place and records them in the manifest. Only the driver does, so a worker
   that is wrongly believed dead cannot damage a shard.

Passages and files are shared through the index folder, to which all nodes need access; vectors of pieces pass between
workers through Ray's object store. Ray reruns the task of a worker that dies on another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import ray

from ragx.config import IndexSettings
from ragx.distributed.cluster import node, raise_worker_errors, workers
from ragx.distributed.embedder import PIECE_SIZE, ModelSource, checked_embedder
from ragx.errors import IndexFolderError
from ragx.index.build import embedding, make_faiss, write_vectors
from ragx.index.manifest import shard_folder
from ragx.index.passages import all_passages, open_passages
from ragx.index.staging import Staging
from ragx.types import Embedder
from ragx.util.files import writing

PIECES_PER_WORKER = 4
"""Pieces in flight per worker: enough to keep workers busy, few enough for the object store."""


def make_shards(
    staging: Staging,
    embedder: Embedder,
    *,
    source: ModelSource,
    quiet: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Make missing vectors and FAISS indexes on the cluster, as `embed_shards` does locally.

    Raises:
        ModelError: a worker's embedder differs from `embedder`, or returned vectors that are not finite.
        ConfigError: FAISS cannot be trained on the vectors of a shard.
        IndexFolderError: a node cannot read or write the index folder.
        RagxError: Ray gave up, for example after four workers died of the same task.
    """
    with writing(staging.drafts):
        staging.drafts.mkdir()
    drafts = str(staging.drafts.absolute())
    name, fingerprint = staging.embedder.name, staging.embedder.fingerprint
    waiting = deque(number for number, _ in enumerate(staging.shards) if not _is_finished(staging, number))
    pieces: dict[ray.ObjectRef[None], int] = {}
    """Pieces being embedded, with their numbers of passages."""
    shards: dict[ray.ObjectRef[str], int] = {}
    """Shards being finished."""
    embed: Any = _embed.options(num_gpus=source.gpus)  # Ray's types allow one result, not two
    limit = PIECES_PER_WORKER * workers(source.device)
    with raise_worker_errors(), embedding(staging, quiet=quiet, on_progress=on_progress) as report:
        while waiting or pieces or shards:
            while waiting and len(pieces) < limit:
                number = waiting.popleft()
                folder = shard_folder(staging.folder.absolute(), number)
                vectors = []
                if not staging.has(f"{folder.name}/vectors.npy"):
                    size = staging.files[f"{folder.name}/passages.arrow"].size
                    for first in range(0, staging.shards[number].passages, PIECE_SIZE):
                        part, done = embed.remote(
                            source, fingerprint, name, str(folder / "passages.arrow"), size, first
                        )
                        vectors.append(part)
                        pieces[done] = min(PIECE_SIZE, staging.shards[number].passages - first)
                draft = _finish.remote(drafts, str(folder), staging.settings, name, *vectors)
                shards[draft] = number
            (task,), _ = ray.wait([*pieces, *shards], num_returns=1)
            result = ray.get(task)
            if task in pieces:
                report(pieces.pop(task))
            else:
                _take(staging, Path(result), shards.pop(task))


def _is_finished(staging: Staging, number: int) -> bool:
    folder = shard_folder(staging.folder, number).name
    return staging.has(f"{folder}/vectors.npy") and staging.has(f"{folder}/faiss.index")


def _take(staging: Staging, draft: Path, number: int) -> None:
    if not draft.is_dir():
        raise IndexFolderError(f"{staging.out} is not the same folder on all nodes: use a shared disk")
    staging.take_draft(draft, shard_folder(staging.folder, number))


@ray.remote(num_returns=2)
def _embed(
    source: ModelSource, fingerprint: str, name: str, path: str, size: int, first: int
) -> tuple[np.ndarray, None]:
    """Embed `PIECE_SIZE` passages from row `first` of a file of `size` bytes: (n, d) float32, and None."""
    embedder = checked_embedder(source, fingerprint, name)
    try:
        is_same = Path(path).stat().st_size == size
        passages = list(all_passages(open_passages(Path(path)).slice(first, PIECE_SIZE)))
    except OSError as error:
        raise IndexFolderError(f"node {node()} cannot read {path} ({error.strerror}): use a shared disk") from None
    if not is_same:
        raise IndexFolderError(f"{path} differs on node {node()}: use a shared disk")
    return embedder.encode_passages(passages, lambda _: None), None


@ray.remote
def _finish(drafts: str, folder: str, settings: IndexSettings, embedder: str, *pieces: np.ndarray) -> str:
    """Write a shard's vectors, if there are pieces, and its FAISS index to a draft folder, and return that folder."""
    draft = Path(drafts) / uuid4().hex
    with writing(draft):
        draft.mkdir()
    vectors = Path(folder) / "vectors.npy"
    if pieces:
        vectors = draft / "vectors.npy"
        write_vectors(np.concatenate(pieces), vectors, embedder, settings.vectors)
    make_faiss(vectors, settings, draft / "faiss.index")
    return str(draft)
