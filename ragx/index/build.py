"""build_index: passages to a published generation of an index, continuing a build that died.

1. The passages of every shard are written to `gen-building/`, which also tells how many there are.
2. Shard by shard they are embedded, and the FAISS index is built from the vectors.
3. The lexical index is built over all shards.
4. `gen-building/` is renamed to the next generation and `CURRENT` is replaced.

A build that finds a `gen-building/` keeps the shards whose passages have the same digest. The steps are functions of
their own: `update_index` takes them too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np

from ragx.config import IndexSettings
from ragx.errors import EmptyCorpusError, IndexFolderError, ModelError
from ragx.index.dense import build_faiss, check_trainable, factory, new_index, write_faiss
from ragx.index.index import open_vectors, shard_folder
from ragx.index.lexical import LexicalError, write_lexical
from ragx.index.manifest import LEXICAL, Counts, EmbedderEntry, Manifest, ShardEntry, is_index_folder
from ragx.index.passages import all_passages, open_passages, write_passages
from ragx.index.staging import Staging
from ragx.index.vectors import VectorFormat, stored
from ragx.types import Embedder, Passage, embedded_text
from ragx.util.files import durable_file, sync_folder, writer_lock, writing
from ragx.util.progress import progress

NONE: np.ndarray = np.empty(0, np.int64)
EMBEDDED_AT_ONCE = 8192
"""Passages that are read from the disk and given to the embedder at a time."""


class MakeShards(Protocol):
    """Makes the vectors and the FAISS index of each shard that has none: `embed_shards`, or other machines do it."""

    def __call__(
        self, staging: Staging, embedder: Embedder, *, quiet: bool, on_progress: Callable[[int, int], object]
    ) -> None:
        """Arguments and errors as `embed_shards`."""


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
    """Build an index in the folder `out` and publish it; readers of an earlier generation are not disturbed.

    Memory holds the vectors of one shard and its FAISS index, whatever the number of shards. A build that died is
    continued when called again: shards that were finished, from the same passages by the same embedder, are kept.

    Args:
        passages: read once, in order; their ids must be unique.
        out: created if it is not there.
        embedder: makes the vectors.
        settings: `faiss`, `vectors` and `shard_size` are used here, the rest is recorded.
        counts: called when the passages are read: any of `documents`, `duplicates`, `empty` and `skipped`.
        quiet: no progress bars on stderr.
        on_progress: told how many passages are embedded, and of how many.
        make_shards: where the work on the shards is done; None: here, by `embed_shards`.
        sources: called when the passages are read: the lines of `sources.jsonl`; None: there will be none.

    Raises:
        ConfigError: the FAISS factory string is invalid or needs more passages. Found before anything is embedded.
        CorpusError: there are no passages (`EmptyCorpusError`), or one is not valid Unicode.
        IndexFolderError: `out` holds something else, cannot be written, or another process is writing to it.
        ModelError: the embedder gave vectors that are not finite.
    """
    new_index(factory(settings.faiss, settings.vectors, 1, embedder.dimension), embedder.dimension)
    check_out(out)
    with writer_lock(out):
        staging = Staging(out, EmbedderEntry.of(embedder), settings)
        write_shards(staging, progress(passages, desc="reading", unit=" passages", quiet=quiet))
        total = Counts(
            **{**counts(), "passages": sum(shard.passages for shard in staging.shards), "shards": len(staging.shards)}
        )
        if not total.passages:
            staging.discard()
            raise EmptyCorpusError("there are no passages to index")
        check_trainable(settings, embedder.dimension, max(shard.passages for shard in staging.shards))
        if sources is not None:
            staging.note_sources(sources())
        (make_shards or embed_shards)(staging, embedder, quiet=quiet, on_progress=on_progress)
        index_words(staging, quiet=quiet)
        return staging.publish(total)


def check_out(out: Path) -> None:
    """Check that nothing but an index is in a folder that an index will be written to.

    Raises:
        IndexFolderError: something else is there, or it cannot be read.
    """
    with writing(out):
        if out.is_dir() and any(path.name != "LOCK" for path in out.iterdir()) and not is_index_folder(out):
            raise IndexFolderError(f"{out} is not empty and not an index: choose another folder")


def write_shards(staging: Staging, passages: Iterable[Passage], first: int = 0) -> None:
    """Write passages into shards of `shard_size`, numbered from `first` on, the last of the generation."""
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
    known: Callable[[str], np.ndarray | None] = lambda _: None,
    *,
    quiet: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Make the vectors and the FAISS index of each shard that has none, but for the vectors `known` by passage id.

    `on_progress` is told how many passages have vectors, of how many.

    Raises:
        ModelError: the embedder gave vectors that are not finite.
        ValueError: there is something to embed and no embedder.
    """
    with embedding(staging, quiet=quiet, on_progress=on_progress) as embedded_more:
        for number in range(len(staging.shards)):
            folder = shard_folder(staging.folder, number)
            if not staging.has(f"{folder.name}/vectors.npy"):
                table = open_passages(folder / "passages.arrow")
                vectors = np.empty((len(table), staging.embedder.dimension), np.float32)
                numbered = enumerate(all_passages(table))
                while batch := list(islice(numbered, EMBEDDED_AT_ONCE)):
                    new = []
                    for row, passage in batch:
                        if (vector := known(passage.id)) is None:
                            new.append((row, passage))
                        else:
                            vectors[row] = vector
                    embedded_more(len(batch) - len(new))
                    if new:
                        if embedder is None:
                            raise ValueError("new passages need an embedder")
                        rows = [row for row, _ in new]
                        vectors[rows] = embedder.encode_passages([passage for _, passage in new], embedded_more)
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
    """Show how far the embedding of a generation's passages is; what is yielded is told how many more are done."""
    done = sum(
        shard.passages
        for number, shard in enumerate(staging.shards)
        if staging.has(f"{shard_folder(staging.folder, number).name}/vectors.npy")
    )
    total = sum(shard.passages for shard in staging.shards)
    with progress(total=total, initial=done, desc="embedding", unit=" passages", quiet=quiet) as bar:

        def embedded_more(number: int) -> None:
            nonlocal done
            done += number
            bar.update(number)
            on_progress(done, total)

        yield embedded_more


def write_vectors(vectors: np.ndarray, path: Path, embedder: str, format: VectorFormat) -> None:
    """Write a shard's vectors, (n, d) float32, durably in a number format.

    Raises:
        ModelError: they are not finite, or too large for the format; names the embedder.
        IndexFolderError: they cannot be written.
    """
    if not np.isfinite(vectors).all():
        raise ModelError(f"embedder {embedder} gives vectors that are not finite: use another dtype")
    rows = stored(vectors, format)
    if format == "float16" and not np.isfinite(rows).all():
        raise ModelError(f"embedder {embedder} gives numbers too large for float16: use float32 or int8")
    with durable_file(path) as file:
        np.save(file, rows, allow_pickle=False)


def make_faiss(vectors: Path, settings: IndexSettings, path: Path) -> None:
    """Write the FAISS index of a shard's vectors file durably; errors as `build_faiss` and `write_faiss`."""
    write_faiss(build_faiss(open_vectors(vectors), settings), path)


def index_words(staging: Staging, deleted: np.ndarray = NONE, *, quiet: bool = False) -> None:
    """Build the lexical index over all shards, without `deleted` rows.

    Raises:
        IndexFolderError: it cannot be written.
    """
    staging.forget(f"{LEXICAL}/")
    folder = staging.folder / LEXICAL
    with writing(folder):
        if folder.is_dir():
            shutil.rmtree(folder)
    try:
        names = write_lexical(folder, staging.settings.language, documents(staging, 0, deleted, quiet=quiet))
    except LexicalError as error:
        raise IndexFolderError(f"cannot write {folder}: {error}") from error
    staging.record(*(f"{LEXICAL}/{name}" for name in names))


def documents(staging: Staging, start: int, deleted: np.ndarray, *, quiet: bool) -> Iterator[tuple[int, str]]:
    """Rows and texts, for the lexical index, of the shards from row `start` on, without `deleted` rows."""
    gone = set(deleted.tolist())
    *starts, total = accumulate((shard.passages for shard in staging.shards), initial=0)
    with progress(total=total - start, desc="indexing words", unit=" passages", quiet=quiet) as bar:
        for number, offset in enumerate(starts):
            if offset >= start:
                table = open_passages(shard_folder(staging.folder, number) / "passages.arrow")
                for row, passage in enumerate(all_passages(table), start=offset):
                    bar.update()
                    if row not in gone:
                        yield row, embedded_text(passage)
