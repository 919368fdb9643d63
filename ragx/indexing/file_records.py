"""Source files: what each one gave when it was read, so that an update need not parse and cut it again.

An index keeps a record of each in `sources.jsonl` (`indexes/README.md`). A record speaks of the file alone: these bytes
under this name give passages of this sum, and these that repeat others. Whether the index still holds the former, and
the latter still repeat something, is found out by looking, so that no record can be out of date.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import Chunking, Settings
from ragx.corpus import Document, PassageCounts, Skipped, parsing_version, split_passages, text_key, unique_passages
from ragx.corpus.seen import Seen
from ragx.index import Index
from ragx.index.by_source import BySource
from ragx.index.manifest import SOURCES
from ragx.index.passages import passage_line
from ragx.types import Passage
from ragx.util.files import sha256
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MOST_NOTED = 10_000
"""Duplicates and documents without passages that a record may list: a file of more has none, and is always parsed."""


class FileRecord(Settings):
    """What a file gave that was read as a whole: nothing of it was skipped."""

    source: str
    name: str
    """The id of its document, if it is one."""
    sha256: str
    passages: str
    """The sum of the SHA-256 of all that the index took, modulo 2²⁵⁶, in hexadecimal."""
    duplicates: list[str]
    """`text_key` of those that it did not take, since they repeat another."""
    bare: list[str]
    """Ids of documents of which it took none."""


class Header(Settings):
    """The first line of `sources.jsonl`."""

    reading: str
    """`reading_version` of then."""


def reading_version(chunking: Chunking, embedder: str) -> str:
    """SHA-256 of what decides, beside a file's bytes and name, which passages it gives. `embedder`: its fingerprint."""
    return hashlib.sha256(json.dumps([parsing_version(), chunking.model_dump(), embedder]).encode()).hexdigest()


def read_records(index: Index) -> tuple[str, list[FileRecord]]:
    """In which `reading_version` the files of an index were read, and what they gave; nothing if that is not known."""
    entry = index.manifest.files.get(SOURCES)
    if entry is None:
        return "", []
    try:
        data = (index.folder / index.generation / SOURCES).read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            return "", []
        header, *lines = data.splitlines()
        return Header.model_validate_json(header).reading, [FileRecord.model_validate_json(line) for line in lines]
    except (OSError, ValueError):  # a file that is empty, or that someone else wrote, too
        return "", []


def record_lines(reading: str, records: Iterable[FileRecord]) -> Iterator[bytes]:
    """The lines of `sources.jsonl`."""
    yield Header(reading=reading).model_dump_json().encode() + b"\n"
    for record in sorted(records, key=lambda record: record.source):
        yield record.model_dump_json().encode() + b"\n"


@dataclass(frozen=True)
class Known:
    """What an index knows of its files."""

    records: Mapping[str, FileRecord] = field(default_factory=dict)
    """By source."""
    passages: Callable[[str], Iterator[Passage]] = lambda _: iter(())
    """Those that it holds of a source, by document."""

    @classmethod
    def of(cls, index: Index, reading: str) -> Known:
        """Nothing, if its files were read in another `reading_version`."""
        earlier, records = read_records(index)
        if earlier != reading or not records:
            return cls()
        return cls({record.source: record for record in records}, BySource(index).passages)


@dataclass
class _File:
    """The file that is being read."""

    path: Path
    source: str
    name: str
    status: tuple[int, ...]
    """Before it was read."""
    sha256: str
    parsed: bool = True
    skipped: bool = False
    """Then it has no record."""
    sum: int = 0
    """Of the SHA-256 of the passages taken."""
    duplicates: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)

    def note(self, where: set[str], what: str) -> None:
        """Add to `duplicates` or `bare`, until there are too many to keep."""
        if not self.skipped:
            where.add(what)
        if len(self.duplicates) + len(self.bare) > MOST_NOTED:
            self.skipped = True
            self.duplicates.clear()
            self.bare.clear()


class SourceFiles:
    """Cuts the documents of one reading into passages, notes what each file gives, and spares those that are known.

    Files are read one after the other, and each passage is dealt with before the next one is asked for: so what comes
    by belongs to the file that was asked about last, if it names that as its source.
    """

    def __init__(self, on_skip: Callable[[Skipped], None], known: Callable[[], Known] = Known) -> None:
        """Begin a reading. `on_skip`: told of what cannot be read; `known`: called when the first file is met."""
        self._on_skip = on_skip
        self._open = known
        self._seen = Seen()
        self._file: _File | None = None
        self._took = False
        """Whether a passage of the document at hand was taken."""
        self._records: dict[str, FileRecord] = {}

    @cached_property
    def known(self) -> Known:
        """What the index knows."""
        return self._open()

    def unchanged(self, path: Path, name: str) -> Iterator[Document] | None:
        """The documents of a file that is to be read now, if it need not be parsed: what `read_documents` asks for."""
        self._finish()
        source = without_surrogates(str(path))
        try:
            file = self._file = _File(path, source, name, _status(path), sha256(path))
        except OSError:
            return None
        record = self.known.records.get(source)
        if record is None or (record.name, record.sha256) != (name, file.sha256) or not self._is_held(record):
            return None
        file.parsed = False
        file.sum = int(record.passages, 16)
        file.duplicates.update(record.duplicates)
        return self._documents(record)

    def passages(
        self,
        documents: Iterator[Document],
        chunking: Chunking,
        tokenizer: PreTrainedTokenizerBase | None,
        counts: PassageCounts,
        earlier: Iterable[str] = (),
    ) -> Iterator[Passage]:
        """Documents cut into passages, without those that are empty or repeat another; errors as `split_passages`."""
        split = split_passages(self._watched(documents), chunking, tokenizer)
        return self._taken(unique_passages(split, counts, earlier, seen=self._seen, on_duplicate=self._duplicate))

    def is_held(self, passage: Passage) -> bool:
        """Whether the passage that came by last was not parsed, but is the index's own."""
        file = self._file_of(passage.source)
        return file is not None and not file.parsed

    def skip(self, skipped: Skipped) -> None:
        """Note that a file, or a part of it, is skipped, and pass it on."""
        source = without_surrogates(skipped.source)
        if self._file is not None and (source == self._file.source or source.startswith(f"{self._file.source}:")):
            self._file.skipped = True
        self._on_skip(skipped)

    def records(self) -> Iterable[FileRecord]:
        """Of the files read, when all are."""
        self._finish()
        return self._records.values()

    def _is_held(self, record: FileRecord) -> bool:
        """Whether the index holds the passages of a file that it took, and would again not take the others."""
        lacking = {key for key in record.duplicates if key not in self._seen}
        total = 0
        for passage in self.known.passages(record.source):
            total += _sha256(passage)
            if lacking:
                lacking.discard(text_key(passage.text))
        return not lacking and _hexadecimal(total) == record.passages

    def _documents(self, record: FileRecord) -> Iterator[Document]:
        for id, passages in groupby(self.known.passages(record.source), lambda passage: passage.document):
            cut = tuple(passages)
            yield Document(id, cut[0].title, "", record.source, passages=cut)
        for id in record.bare:
            yield Document(id, "", "", record.source, passages=())

    def _watched(self, documents: Iterator[Document]) -> Iterator[Document]:
        for document in documents:
            self._took = False
            yield document
            if not self._took and (file := self._file_of(document.source)):
                file.note(file.bare, document.id)

    def _taken(self, passages: Iterator[Passage]) -> Iterator[Passage]:
        for passage in passages:
            self._took = True
            if (file := self._file_of(passage.source)) and file.parsed:
                file.sum += _sha256(passage)
            yield passage

    def _duplicate(self, passage: Passage) -> None:
        if file := self._file_of(passage.source):
            file.note(file.duplicates, text_key(passage.text))
            if not file.parsed:  # it was taken until now
                file.sum -= _sha256(passage)

    def _file_of(self, source: str) -> _File | None:
        """The file that is being read, if it is this one and not a dataset that is read after it."""
        return self._file if self._file is not None and self._file.source == source else None

    def _finish(self) -> None:
        """Make the record of the file that was read."""
        file, self._file = self._file, None
        if file is None or file.skipped or _changed(file):
            return
        self._records[file.source] = FileRecord(
            source=file.source,
            name=file.name,
            sha256=file.sha256,
            passages=_hexadecimal(file.sum),
            duplicates=sorted(file.duplicates),
            bare=sorted(file.bare),
        )


def _status(path: Path) -> tuple[int, ...]:
    """What is another one after a file has been written to."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _changed(file: _File) -> bool:
    """Whether a file was written to while it was read: what was parsed may not be what was hashed."""
    try:
        return _status(file.path) != file.status
    except OSError:
        return True


def _sha256(passage: Passage) -> int:
    return int.from_bytes(hashlib.sha256(passage_line(passage)).digest())


def _hexadecimal(total: int) -> str:
    return f"{total % 2**256:064x}"
