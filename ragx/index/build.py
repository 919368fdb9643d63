"""build_index: write passages as a new generation of an index; an interrupted build can be continued.

1. Write the passages of every shard to `gen-building/`, which also counts them.
2. Shard by shard, embed them and build the FAISS index from the vectors.
3. Build the lexical index over all shards.
4. Rename `gen-building/` to the next generation and replace `CURRENT`.

A build that finds a `gen-building/` keeps shards whose passages have the same digest. `update_index` uses these steps
too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np

from ragx.config import IndexSettings
from ragx.errors import EmptyCorpusError, IndexFolderError, ModelError
from ragx.index.dense import build_faiss, check_trainable, factory, new_index, write_faiss
from ragx.index.lexical_build import build_lexical
from ragx.index.lock import index_lock
from ragx.index.manifest import Counts, EmbedderEntry, Manifest, ShardEntry, is_index_folder, shard_folder
from ragx.index.passages import all_passages, open_passages, write_passages
from ragx.index.staging import Staging
from ragx.index.vectors import VectorFormat, open_vectors, to_format
from ragx.types import Embedder, Passage
from ragx.util.files import durable_file, sync_folder, writing
from ragx.util.progress import progress

EMBEDDING_BATCH = 8192
"""Passages passed to the embedder at a time."""


class MakeShards(Protocol):
    """Makes missing vectors and FAISS indexes, here (`embed_shards`) or on other machines."""

    def __call__(
        self, staging: Staging, embedder: Embedder, *, quiet: bool, on_progress: Callable[[int, int], object]
    ) -> None:
        """Arguments and errors as for `embed_shards`."""


def build_index(
    passages: Iterable[Passage],
    out: Path,
    embedder: Embedder,
    settings: IndexSettings,
    *,
    counts: Callable[[], Mapping[str, int]] = dict,
    quiet: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    make_shards: MakeShards | None = None,
    sources: Callable[[], Iterable[bytes]] | None = None,
) -> Manifest:
    """Build an index in the folder `out` and publish it; readers keep the generation that they have opened.

    Memory holds the vectors and the FAISS index of one shard at a time. Calling it again after an interruption keeps
    finished shards of the same passages and embedder.

    Args:
        passages: read once, in order; their ids must be unique.
        out: created if missing.
        embedder: makes the vectors.
        settings: `faiss`, `vectors`, `language` and `shard_size` are used here, the others are recorded.
        counts: called after the passages are read: any of `documents`, `duplicates`, `empty` and `skipped`.
        quiet: show no progress bars.
        on_progress: called with the number of embedded passages and the total.
        make_shards: makes vectors and FAISS indexes; None: `embed_shards`.
        sources: called after the passages are read: the lines of `sources.jsonl`; None: write no such file.

    Raises:
        ConfigError: the FAISS factory string is invalid or needs more passages; raised before embedding.
        CorpusError: there are no passages (`EmptyCorpusError`), or one is not valid Unicode.
        IndexFolderError: `out` holds something else, cannot be written, or another process is writing to it.
        ModelError: the embedder returned vectors that are not finite.
    """
    new_index(factory(settings.faiss, settings.vectors, 1, embedder.dimension), embedder.dimension)
    check_out(out)
    with index_lock(out):
        staging = Staging(out, EmbedderEntry.of(embedder), settings)
        write_shards(staging, progress(passages, desc="reading", unit=" passages", quiet=quiet))
        total = Counts(**{**counts(), "passages": staging.total, "shards": len(staging.shards)})
        if not total.passages:
            staging.discard()
            raise EmptyCorpusError("there are no passages to index")
        check_trainable(settings, embedder.dimension, max(shard.passages for shard in staging.shards))
        if sources is not None:
            staging.write_sources(sources())
        (make_shards or embed_shards)(staging, embedder, quiet=quiet, on_progress=on_progress)
        build_lexical(staging, quiet=quiet)
        return staging.publish(total)


def check_out(out: Path) -> None:
    """Check that an output folder is empty, missing or an index.

    Raises:
        IndexFolderError: it holds something else, or cannot be read.
    """
    with writing(out):
        if out.is_dir() and any(path.name != "LOCK" for path in out.iterdir()) and not is_index_folder(out):
            raise IndexFolderError(f"{out} is neither empty nor an index: choose another folder")


def write_shards(staging: Staging, passages: Iterable[Passage], first: int = 0) -> None:
    """Write passages into shards of `shard_size`, numbered from `first`, and drop any later shards."""
    stream = iter(passages)
    count = first
    while (head := next(stream, None)) is not None:
        folder = shard_folder(staging.folder, count)
        with writing(folder):
            folder.mkdir(exist_ok=True)
            sync_folder(staging.folder)
        shard = chain([head], islice(stream, staging.settings.shard_size - 1))
        number, digest = write_passages(shard, folder / "passages.arrow")
        entry = ShardEntry(passages=number, digest=digest)
        if staging.shards[count : count + 1] != [entry]:
            staging.forget(f"{folder.name}/")
            staging.shards[count : count + 1] = [entry]
        staging.record(f"{folder.name}/passages.arrow")
        count += 1
    for number in range(count, len(staging.shards)):
        folder = shard_folder(staging.folder, number)
        staging.forget(f"{folder.name}/")
        shutil.rmtree(folder, ignore_errors=True)
    del staging.shards[count:]


def embed_shards(
    staging: Staging,
    embedder: Embedder | None,
    find_vector: Callable[[int, Passage], np.ndarray | None] = lambda row, passage: None,
    *,
    quiet: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Make the missing vectors and FAISS indexes of all shards.

    Args:
        staging: the generation, with its passages.
        embedder: None if no passage needs it.
        find_vector: returns the existing vector of the passage in a row, or None to embed the passage.
        quiet: show no progress bars.
        on_progress: called with the number of passages that have vectors, and the total.

    Raises:
        ModelError: the embedder returned vectors that are not finite.
        ValueError: there are passages to embed, but no embedder.
    """
    with embedding(staging, quiet=quiet, on_progress=on_progress) as report:
        for number, (start, _) in enumerate(staging.spans()):
            folder = shard_folder(staging.folder, number)
            if not staging.has(f"{folder.name}/vectors.npy"):
                table = open_passages(folder / "passages.arrow")
                vectors = np.empty((len(table), staging.embedder.dimension), np.float32)
                numbered = enumerate(all_passages(table))
                while batch := list(islice(numbered, EMBEDDING_BATCH)):
                    new = []
                    for row, passage in batch:
                        if (vector := find_vector(start + row, passage)) is None:
                            new.append((row, passage))
                        else:
                            vectors[row] = vector
                    report(len(batch) - len(new))
                    if new:
                        if embedder is None:
                            raise ValueError("new passages need an embedder")
                        rows = [row for row, _ in new]
                        vectors[rows] = embedder.encode_passages([passage for _, passage in new], report)
                write_vectors(vectors, folder / "vectors.npy", staging.embedder.name, staging.settings.vectors)
                staging.record(f"{folder.name}/vectors.npy")
                del vectors
            if not staging.has(f"{folder.name}/faiss.index"):
                make_faiss(folder / "vectors.npy", staging.settings, folder / "faiss.index")
                staging.record(f"{folder.name}/faiss.index")


@contextmanager
def embedding(
    staging: Staging, *, quiet: bool, on_progress: Callable[[int, int], object]
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for embedding; call the yielded function with the number of passages just embedded."""
    done = sum(
        shard.passages
        for number, shard in enumerate(staging.shards)
        if staging.has(f"{shard_folder(staging.folder, number).name}/vectors.npy")
    )
    total = staging.total
    with progress(total=total, initial=done, desc="embedding", unit=" passages", quiet=quiet) as bar:

        def report(number: int) -> None:
            nonlocal done
            done += number
            bar.update(number)
            on_progress(done, total)

        yield report


def write_vectors(vectors: np.ndarray, path: Path, embedder: str, format: VectorFormat) -> None:
    """Write a shard's vectors, (n, d) float32, durably in a number format.

    Raises:
        ModelError: the vectors are not finite or too large for the format; names the embedder.
        IndexFolderError: the file cannot be written.
    """
    if not np.isfinite(vectors).all():
        raise ModelError(f"embedder {embedder} returned vectors that are not finite: use another dtype")
    rows = to_format(vectors, format)
    if format == "float16" and not np.isfinite(rows).all():
        raise ModelError(f"embedder {embedder} returned numbers too large for float16: use float32 or int8")
    with durable_file(path) as file:
        np.save(file, rows, allow_pickle=False)


def make_faiss(vectors: Path, settings: IndexSettings, path: Path) -> None:
    """Build and durably write the FAISS index of a shard's vectors file; errors as `build_faiss` and `write_faiss`."""
    write_faiss(build_faiss(open_vectors(vectors), settings), path)
