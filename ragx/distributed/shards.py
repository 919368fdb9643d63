"""make_shards: the vectors and FAISS indexes of a generation's shards, made by the workers of a Ray cluster.

1. A shard's passages are embedded in pieces of `PIECE`, each a task. The batches are those of the local engine, so the
   vectors are too.
2. When a shard's pieces are there, a task writes its vectors and its FAISS index into a draft folder.
3. The driver gives the draft's files their names and notes them in the manifest. Nobody else does, so that a worker
   which is believed dead and is not cannot harm a shard.

Passages and files travel through the index folder, which all nodes must see; the vectors of pieces go from worker to
worker through Ray's object store. Ray runs the task of a worker that dies again, elsewhere.
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
from ragx.distributed.cluster import errors_in_one_line, node, workers
from ragx.distributed.embedder import PIECE, Source, checked_embedder
from ragx.errors import IndexFolderError
from ragx.index.build import embedding, make_faiss, write_vectors
from ragx.index.index import shard_folder
from ragx.index.passages import all_passages, open_passages
from ragx.index.staging import Staging
from ragx.types import Embedder
from ragx.util.files import writing

AHEAD = 4
"""Pieces a worker that wait for it, so that none waits for the driver; they bound what the object store holds."""


def make_shards(
    staging: Staging,
    embedder: Embedder,
    *,
    source: Source,
    quiet: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Make the vectors and the FAISS index of each shard that has none, as `embed_shards` does, on the cluster.

    Raises:
        ModelError: a worker's embedder is another one than `embedder`, or gave vectors that are not finite.
        ConfigError: FAISS cannot be trained on the vectors of a shard.
        IndexFolderError: a node does not see the index folder, or cannot write to it.
        RagxError: Ray gave up, as after the fourth worker that died of the same task.
    """
    with writing(staging.drafts):
        staging.drafts.mkdir()
    drafts = str(staging.drafts.absolute())
    wanted = staging.embedder
    waiting = deque(number for number, _ in enumerate(staging.shards) if not _is_made(staging, number))
    pieces: dict[ray.ObjectRef[None], int] = {}
    """Those being embedded, and how many passages each holds."""
    shards: dict[ray.ObjectRef[str], int] = {}
    """Those being finished."""
    embed: Any = _embed.options(num_gpus=source.gpus)  # Ray's types know one result, not two
    most = AHEAD * workers(source.device)
    with errors_in_one_line(), embedding(staging, quiet=quiet, on_progress=on_progress) as embedded_more:
        while waiting or pieces or shards:
            while waiting and len(pieces) < most:
                number = waiting.popleft()
                folder = shard_folder(staging.folder.absolute(), number)
                vectors = []
                if not staging.has(f"{folder.name}/vectors.npy"):
                    size = staging.files[f"{folder.name}/passages.arrow"].size
                    for first in range(0, staging.shards[number].passages, PIECE):
                        part, embedded = embed.remote(
                            source, wanted.fingerprint, wanted.name, str(folder / "passages.arrow"), size, first
                        )
                        vectors.append(part)
                        pieces[embedded] = min(PIECE, staging.shards[number].passages - first)
                made = _finish.remote(drafts, str(folder), staging.settings, wanted.name, *vectors)
                shards[made] = number
            done, _ = ray.wait([*pieces, *shards], num_returns=1)
            for each in done:
                result = ray.get(each)
                if each in pieces:
                    embedded_more(pieces.pop(each))
                else:
                    _take(staging, Path(result), shards.pop(each))


def _is_made(staging: Staging, number: int) -> bool:
    folder = shard_folder(staging.folder, number).name
    return staging.has(f"{folder}/vectors.npy") and staging.has(f"{folder}/faiss.index")


def _take(staging: Staging, draft: Path, number: int) -> None:
    if not draft.is_dir():
        raise IndexFolderError(f"{staging.out} is not the same folder on all nodes of the cluster: use a shared disk")
    staging.take(draft, shard_folder(staging.folder, number))


@ray.remote(num_returns=2)
def _embed(source: Source, fingerprint: str, name: str, path: str, size: int, first: int) -> tuple[np.ndarray, None]:
    """Embed `PIECE` passages of a file of `size` bytes, from row `first` on: (n, d) float32, and that it is done."""
    embedder = checked_embedder(source, fingerprint, name)
    try:
        same = Path(path).stat().st_size == size
        passages = list(all_passages(open_passages(Path(path)).slice(first, PIECE)))
    except OSError as error:
        raise IndexFolderError(f"node {node()} cannot read {path} ({error.strerror}): use a shared disk") from None
    if not same:
        raise IndexFolderError(f"node {node()} has another {path}: use a shared disk")
    return embedder.encode_passages(passages, lambda _: None), None


@ray.remote
def _finish(drafts: str, folder: str, settings: IndexSettings, embedder: str, *pieces: np.ndarray) -> str:
    """Write a shard's vectors, unless there are no pieces because it has them, and its FAISS index; say where."""
    draft = Path(drafts) / uuid4().hex
    with writing(draft):
        draft.mkdir()
    vectors = Path(folder) / "vectors.npy"
    if pieces:
        vectors = draft / "vectors.npy"
        write_vectors(np.concatenate(pieces), vectors, embedder, settings.vectors)
    make_faiss(vectors, settings, draft / "faiss.index")
    return str(draft)
