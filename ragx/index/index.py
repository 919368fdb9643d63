"""Index: one generation, opened for reading."""

from __future__ import annotations

import stat
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ragx.errors import REPAIR_ADVICE, IndexFolderError
from ragx.index.dense import open_faiss
from ragx.index.lexical import Lexical, LexicalError
from ragx.index.manifest import DELETED, LEXICAL, FileEntry, Manifest, lexical_files, load_manifest, of_current
from ragx.index.passages import all_passages, column, open_passages, passage_at, passages_at
from ragx.index.vectors import as_float32, dimension
from ragx.types import Embedder, Passage, embedded_text
from ragx.util.files import sha256
from ragx.util.terminal import notice
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import faiss
    import pyarrow as pa

T = TypeVar("T")

READ_WHEN_OPENED = 256 << 20
"""Bytes: the files of an index up to this size are compared with their checksums whenever it is opened."""


@dataclass(frozen=True)
class Shard:
    """One shard, mapped into memory."""

    folder: Path
    offset: int
    """Row of its first passage in the whole index."""
    passages: pa.Table
    vectors: np.ndarray
    """As `ragx.index.vectors` stores them."""
    faiss: faiss.Index
    live: np.ndarray | None
    """(n,) bool: which passages have not been deleted; None: all."""

    def __len__(self) -> int:
        """How many passages there are, without the deleted ones."""
        return len(self.vectors) if self.live is None else int(np.count_nonzero(self.live))


class Index:
    """A generation, kept open: later ones do not change what it returns.

    Rows run over all shards, from 0; those of deleted passages stay where they are, and nothing finds them.
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
        """Name of its folder; empty where nothing is on disk yet."""
        self.manifest = manifest
        self.shards = shards
        self._lexical = lexical
        self._making_lexical = Lock()
        self.deleted = deleted
        """Rows of deleted passages, int64, ascending."""
        self.total = sum(len(shard.vectors) for shard in shards)
        """Rows, those of deleted passages among them."""
        self._offsets = [shard.offset for shard in shards]

    @classmethod
    def open(cls, folder: Path, generation: str | None = None) -> Index:
        """Open a generation of an index folder, by default the current one, mapping its files into memory.

        Checks the manifest, the size and header of every file and, of an index that is not larger than
        `READ_WHEN_OPENED`, the contents. A larger one is read by `verify`.

        Raises:
            IndexFolderError: there is no index, a file of it is missing or damaged, or its format is another.
        """
        if generation is not None:
            return cls._open(folder, folder / generation)
        return of_current(folder, lambda current: cls._open(folder, current))

    @classmethod
    def _open(cls, folder: Path, generation: Path) -> Index:
        manifest = load_manifest(generation)
        read = sum(entry.size for entry in manifest.files.values()) <= READ_WHEN_OPENED
        if problem := next(problems(generation, manifest, read=read), None):
            raise IndexFolderError(f"{problem[1]}: {REPAIR_ADVICE}")
        tables = []
        for number, listed in enumerate(manifest.shards):
            tables.append(_opened(open_passages, shard_folder(generation, number) / "passages.arrow"))
            if len(tables[-1]) != listed.passages:
                raise IndexFolderError(
                    f"the files of {shard_folder(generation, number)} do not belong together: {REPAIR_ADVICE}"
                )
        rows = sum(shard.passages for shard in manifest.shards)
        deleted = np.empty(0, np.int64)
        if DELETED in manifest.files:
            deleted = _opened(open_vectors, generation / DELETED)
            if deleted.dtype != np.int64 or not _ascend(deleted, rows):
                raise IndexFolderError(f"{generation / DELETED} is damaged: {REPAIR_ADVICE}")
        live = np.ones(rows, bool)
        live[deleted] = False
        shards: list[Shard] = []
        offset = 0
        for number, (listed, passages) in enumerate(zip(manifest.shards, tables, strict=True)):
            shard = shard_folder(generation, number)
            vectors = _opened(open_vectors, shard / "vectors.npy")
            faiss_index = _opened(lambda path: open_faiss(path, manifest.settings.search), shard / "faiss.index")
            if not (
                len(vectors) == listed.passages == faiss_index.ntotal
                and dimension(vectors) == manifest.embedder.dimension
            ):
                raise IndexFolderError(f"the files of {shard} do not belong together: {REPAIR_ADVICE}")
            alive = live[offset : offset + listed.passages]
            shards.append(Shard(shard, offset, passages, vectors, faiss_index, None if alive.all() else alive))
            offset += listed.passages
        return cls(folder, manifest, shards, open_lexical(generation, manifest), deleted, generation.name)

    def __len__(self) -> int:
        """How many passages there are, without the deleted ones."""
        return self.manifest.counts.passages

    @property
    def built_with(self) -> str:
        """Names the embedder the index was built with, for messages."""
        embedder = self.manifest.embedder
        return f"index {self.folder} was built with embedder {embedder.name} (fingerprint {embedder.fingerprint[:12]})"

    def check_embedder(self, embedder: Embedder) -> None:
        """Check that the index was built with this embedder.

        Raises:
            IndexFolderError: it was built with another one.
        """
        if embedder.fingerprint != self.manifest.embedder.fingerprint:
            given = f"{embedder.name} (fingerprint {embedder.fingerprint[:12]})"
            raise IndexFolderError(f"{self.built_with}, not with {given}: use that embedder or rebuild the index")

    def check_files(self, names: Collection[str]) -> None:
        """Compare files with their checksums, which is not done when a large index is opened.

        What is made from them would else get a checksum of its own, and nothing would tell of the damage any more.

        Raises:
            IndexFolderError: one is missing or damaged.
        """
        named = self.manifest.model_copy(update={"files": {name: self.manifest.files[name] for name in names}})
        if problem := next(problems(self.folder / self.generation, named), None):
            raise IndexFolderError(f"{problem[1]}: {REPAIR_ADVICE}")

    @property
    def lexical(self) -> Lexical:
        """The lexical index. One that an earlier ragx left out is made in memory, once."""
        with self._making_lexical:
            if self._lexical is None:
                notice(f"{self.folder} has no lexical index: making one in memory; `ragx index repair` stores one")
                texts = map(embedded_text, self.live_passages())
                documents = zip(self.rows().tolist(), texts, strict=True)
                self._lexical = Lexical.in_memory(documents, self.manifest.settings.language)
            return self._lexical

    def rows(self) -> np.ndarray:
        """The rows of all passages that are not deleted, ascending."""
        return np.setdiff1d(np.arange(self.total), self.deleted, assume_unique=True)

    def find(self, ids: Collection[str]) -> dict[str, int]:
        """The rows of passages by their ids, in the order of rows; ids that are not there are left out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array([name for name in ids if name == without_surrogates(name)], pa.large_string())
        found: dict[str, int] = {}
        for shard in self.shards:
            held = column(shard.passages, "id")
            matches = pc.is_in(held, value_set=wanted).to_numpy()
            if shard.live is not None:
                matches = matches & shard.live
            found |= {held[row].as_py(): shard.offset + row for row in np.flatnonzero(matches).tolist()}
        return found

    def entries(self) -> Iterator[tuple[str, str, str]]:
        """Id, document and source of every passage that is not deleted, in the order of rows."""
        for shard in self.shards:
            columns = (column(shard.passages, name).to_pylist() for name in ("id", "document", "source"))
            for row, entry in enumerate(zip(*columns, strict=True)):
                if shard.live is None or shard.live[row]:
                    yield entry

    def live_passages(self) -> Iterator[Passage]:
        """Every passage that is not deleted, in the order of rows."""
        for shard in self.shards:
            for row, passage in enumerate(all_passages(shard.passages)):
                if shard.live is None or shard.live[row]:
                    yield passage

    def passages(self, rows: Sequence[int]) -> Iterator[Passage]:
        """The passages in these rows, which ascend."""
        for shard in self.shards:
            first, last = (bisect_left(rows, row) for row in (shard.offset, shard.offset + len(shard.vectors)))
            yield from passages_at(shard.passages, [row - shard.offset for row in rows[first:last]])

    def passage(self, row: int) -> Passage:
        """The passage in a row, from 0.

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
        """The shard that holds a row.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= row < self.total:
            raise IndexError(f"no row {row} in an index of {self.total} rows")
        return self.shards[bisect_right(self._offsets, row) - 1]


def shard_folder(generation: Path, number: int) -> Path:
    """Where a generation keeps a shard."""
    return generation / f"shard-{number:05d}"


def open_lexical(generation: Path, manifest: Manifest) -> Lexical | None:
    """A generation's lexical index; None where an earlier ragx wrote none.

    Raises:
        IndexFolderError: it is damaged.
    """
    if not lexical_files(manifest):
        return None
    folder = generation / LEXICAL
    try:
        lexical = Lexical.open(folder, manifest.settings.language)
    except LexicalError as error:
        raise IndexFolderError(f"{folder} is damaged: {REPAIR_ADVICE}") from error
    if len(lexical) != manifest.counts.passages:
        raise IndexFolderError(f"the files of {folder} do not belong to its shards: {REPAIR_ADVICE}")
    return lexical


def open_vectors(path: Path) -> np.ndarray:
    """Map an array into memory: a shard's vectors, as stored, or the deleted rows.

    Raises:
        OSError, ValueError: the file is missing or damaged.
    """
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def problems(generation: Path, manifest: Manifest, *, read: bool = True) -> Iterator[tuple[str, str]]:
    """The files that are not as the manifest says, each with what is wrong; without `read` by their sizes alone."""
    for name, entry in manifest.files.items():
        path = generation / name
        problem = _size_problem(path, entry)
        if not problem and read and _sha256(path) != entry.sha256:
            problem = f"{path} is damaged: its SHA-256 is not the manifest's"
        if problem:
            yield name, problem


def _sha256(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:  # a bad block
        return None


def _size_problem(path: Path, entry: FileEntry) -> str | None:
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        return f"{path} is damaged: it is not a regular file"
    size = status.st_size
    return None if size == entry.size else f"{path} is damaged: {size:,} bytes instead of {entry.size:,}"


def _ascend(rows: np.ndarray, total: int) -> bool:
    return rows.ndim == 1 and bool(np.all(np.diff(rows, prepend=-1, append=total) > 0))


def _opened(opener: Callable[[Path], T], path: Path) -> T:
    try:
        return opener(path)
    except OSError as error:
        raise IndexFolderError(f"cannot read {error.filename or path}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever the readers of Arrow, NumPy and FAISS make of damaged bytes
        raise IndexFolderError(f"{path} is damaged: {REPAIR_ADVICE}") from error
