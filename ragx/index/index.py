"""Index: a generation opened for reading."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ragx.errors import REPAIR_ADVICE, IndexFolderError
from ragx.index.dense import open_faiss
from ragx.index.integrity import problems
from ragx.index.lexical import Lexical, lexical_shard_folder
from ragx.index.lexical_shard import LexicalError, LexicalShard
from ragx.index.manifest import DELETED, LEXICAL, Manifest, load_manifest, read_current, shard_folder
from ragx.index.passages import all_passages, column, open_passages, passage_at, passages_at
from ragx.index.vectors import as_float32, dimension, open_vectors
from ragx.types import Embedder, Passage
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import faiss
    import pyarrow as pa

T = TypeVar("T")

MAX_CHECKED_BYTES = 256 << 20
"""Size up to which opening an index compares all its files with their checksums."""


@dataclass(frozen=True)
class Shard:
    """One memory-mapped shard."""

    folder: Path
    offset: int
    """Row of its first passage in the whole index."""
    passages: pa.Table
    vectors: np.ndarray
    """In the stored format; see `ragx.index.vectors`."""
    faiss: faiss.Index
    live: np.ndarray | None
    """(n,) bool: true for passages that are not deleted; None: all."""

    def __len__(self) -> int:
        """Number of passages that are not deleted."""
        return len(self.vectors) if self.live is None else int(np.count_nonzero(self.live))


class Index:
    """An open generation, which later ones do not affect.

    Rows number the passages of all shards from 0. Deleted passages keep their rows, but no search finds them.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        shards: list[Shard],
        lexical: Lexical | None,
        deleted: np.ndarray,
        generation: str = "",
    ) -> None:
        """Use `Index.open`."""
        self.folder = folder
        self.generation = generation
        """Name of its folder; empty for an index that is not on disk yet."""
        self.manifest = manifest
        self.shards = shards
        self._lexical = lexical
        self.deleted = deleted
        """Rows of deleted passages, int64, ascending."""
        self.total = sum(len(shard.vectors) for shard in shards)
        """Number of rows, including those of deleted passages."""
        self._offsets = [shard.offset for shard in shards]

    @classmethod
    def open(cls, folder: Path, generation: str | None = None) -> Index:
        """Open a generation of an index folder, by default the current one, and memory-map its files.

        Checks the manifest, the size and header of every file and, up to `MAX_CHECKED_BYTES`, the contents. `verify`
        checks larger indexes.

        Raises:
            IndexFolderError: there is no index, a file is missing or damaged, or the format is unknown.
        """
        if generation is not None:
            return cls._open(folder, folder / generation)
        return read_current(folder, lambda current: cls._open(folder, current))

    @classmethod
    def _open(cls, folder: Path, generation: Path) -> Index:
        manifest = load_manifest(generation)
        read = sum(entry.size for entry in manifest.files.values()) <= MAX_CHECKED_BYTES
        if problem := next(problems(generation, manifest, read=read), None):
            raise IndexFolderError(f"{problem[1]}: {REPAIR_ADVICE}")
        tables = []
        for number, entry in enumerate(manifest.shards):
            tables.append(_opened(open_passages, shard_folder(generation, number) / "passages.arrow"))
            if len(tables[-1]) != entry.passages:
                raise IndexFolderError(
                    f"the files of {shard_folder(generation, number)} do not belong together: {REPAIR_ADVICE}"
                )
        rows = sum(shard.passages for shard in manifest.shards)
        deleted = np.empty(0, np.int64)
        if DELETED in manifest.files:
            deleted = _opened(open_vectors, generation / DELETED)
            if deleted.dtype != np.int64 or not _are_rows(deleted, rows):
                raise IndexFolderError(f"{generation / DELETED} is damaged: {REPAIR_ADVICE}")
        live = np.ones(rows, bool)
        live[deleted] = False
        shards: list[Shard] = []
        offset = 0
        for number, (entry, passages) in enumerate(zip(manifest.shards, tables, strict=True)):
            shard = shard_folder(generation, number)
            vectors = _opened(open_vectors, shard / "vectors.npy")
            faiss_index = _opened(lambda path: open_faiss(path, manifest.settings.search), shard / "faiss.index")
            if not (
                len(vectors) == entry.passages == faiss_index.ntotal
                and dimension(vectors) == manifest.embedder.dimension
            ):
                raise IndexFolderError(f"the files of {shard} do not belong together: {REPAIR_ADVICE}")
            alive = live[offset : offset + entry.passages]
            shards.append(Shard(shard, offset, passages, vectors, faiss_index, None if alive.all() else alive))
            offset += entry.passages
        return cls(folder, manifest, shards, open_lexical(generation, manifest), deleted, generation.name)

    def __len__(self) -> int:
        """Number of passages that are not deleted."""
        return self.manifest.counts.passages

    @property
    def built_with(self) -> str:
        """For messages: the index and the embedder it was built with."""
        embedder = self.manifest.embedder
        return f"index {self.folder} was built with embedder {embedder.name} (fingerprint {embedder.fingerprint[:12]})"

    def check_embedder(self, embedder: Embedder) -> None:
        """Check that the index was built with this embedder.

        Raises:
            IndexFolderError: it was built with another embedder.
        """
        if embedder.fingerprint != self.manifest.embedder.fingerprint:
            other = f"{embedder.name} (fingerprint {embedder.fingerprint[:12]})"
            raise IndexFolderError(f"{self.built_with}, not with {other}: use that embedder or rebuild the index")

    def check_files(self, names: Collection[str]) -> None:
        """Compare files with their checksums before copying from them; opening a large index does not.

        A copy of damaged data would otherwise hide the damage behind a valid checksum.

        Raises:
            IndexFolderError: a file is missing or damaged.
        """
        partial = self.manifest.model_copy(update={"files": {name: self.manifest.files[name] for name in names}})
        if problem := next(problems(self.folder / self.generation, partial), None):
            raise IndexFolderError(f"{problem[1]}: {REPAIR_ADVICE}")

    @property
    def lexical(self) -> Lexical:
        """The lexical index.

        Raises:
            LookupError: the index is not on disk yet.
        """
        if self._lexical is None:
            raise LookupError("an index that is not on disk yet has no lexical index")
        return self._lexical

    def rows(self) -> np.ndarray:
        """Rows of all passages that are not deleted, ascending."""
        return np.setdiff1d(np.arange(self.total), self.deleted, assume_unique=True)

    def find(self, ids: Collection[str]) -> dict[str, int]:
        """The rows of passages by id, in the order of rows, without unknown ids."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values = pa.array([name for name in ids if name == without_surrogates(name)], pa.large_string())
        rows: dict[str, int] = {}
        for shard in self.shards:
            shard_ids = column(shard.passages, "id")
            matches = pc.is_in(shard_ids, value_set=values).to_numpy()
            if shard.live is not None:
                matches = matches & shard.live
            rows |= {shard_ids[row].as_py(): shard.offset + row for row in np.flatnonzero(matches).tolist()}
        return rows

    def entries(self) -> Iterator[tuple[str, str, str]]:
        """Id, document and source of all passages that are not deleted, in the order of rows."""
        for shard in self.shards:
            columns = (column(shard.passages, name).to_pylist() for name in ("id", "document", "source"))
            for row, entry in enumerate(zip(*columns, strict=True)):
                if shard.live is None or shard.live[row]:
                    yield entry

    def live_passages(self) -> Iterator[Passage]:
        """All passages that are not deleted, in the order of rows."""
        for shard in self.shards:
            for row, passage in enumerate(all_passages(shard.passages)):
                if shard.live is None or shard.live[row]:
                    yield passage

    def passages(self, rows: Sequence[int] | np.ndarray) -> Iterator[Passage]:
        """The passages in these rows, in ascending order."""
        rows = np.asarray(rows, np.int64)
        for shard in self.shards:
            first, last = np.searchsorted(rows, (shard.offset, shard.offset + len(shard.vectors)))
            yield from passages_at(shard.passages, (rows[first:last] - shard.offset).tolist())

    def passage(self, row: int) -> Passage:
        """The passage in a row.

        Raises:
            IndexError: there is no such row.
        """
        shard = self.shard_of(row)
        return passage_at(shard.passages, row - shard.offset)

    def vector(self, row: int) -> np.ndarray:
        """The vector of the passage in a row, (d,) float32.

        Raises:
            IndexError: there is no such row.
        """
        shard = self.shard_of(row)
        return as_float32(shard.vectors[row - shard.offset])

    def shard_of(self, row: int) -> Shard:
        """The shard with a row.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= row < self.total:
            raise IndexError(f"no row {row} in an index of {self.total} rows")
        return self.shards[bisect_right(self._offsets, row) - 1]


def open_lexical(generation: Path, manifest: Manifest) -> Lexical:
    """A generation's lexical index.

    Raises:
        IndexFolderError: it is missing or damaged.
    """
    folder, size = generation / LEXICAL, manifest.settings.lexical_shard_size
    number = ceil(sum(shard.passages for shard in manifest.shards) / size)
    try:
        shards = [LexicalShard.open(lexical_shard_folder(folder, each)) for each in range(number)]
    except LexicalError as error:
        raise IndexFolderError(f"{folder} is damaged: {REPAIR_ADVICE}") from error
    lexical = Lexical(shards, size, manifest.settings.language)
    if len(lexical) != manifest.counts.passages:
        raise IndexFolderError(f"the files of {folder} do not belong to its shards: {REPAIR_ADVICE}")
    return lexical


def _are_rows(rows: np.ndarray, total: int) -> bool:
    """Whether `rows` are one-dimensional, ascending and below `total`."""
    return rows.ndim == 1 and bool(np.all(np.diff(rows, prepend=-1, append=total) > 0))


def _opened(opener: Callable[[Path], T], path: Path) -> T:
    try:
        return opener(path)
    except OSError as error:
        raise IndexFolderError(f"cannot read {error.filename or path}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Arrow, NumPy and FAISS raise many classes for damaged files
        raise IndexFolderError(f"{path} is damaged: {REPAIR_ADVICE}") from error
