"""Files -> passages, for a build and an update: reuse or parse, chunk and deduplicate each file, then record it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ragx.config import Chunking
from ragx.corpus import PassageCounts, Skipped, unique_passages
from ragx.corpus.chunking import check_tokenizer, split_document
from ragx.corpus.reading import FileReader
from ragx.corpus.seen import Seen
from ragx.corpus.sources import Entry, SourceFile
from ragx.errors import CorpusError
from ragx.indexing.file_records import FileRecord
from ragx.types import Passage
from ragx.util.files import sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ragx.corpus.document import Document


@dataclass
class BuildReport:
    """What became of the files."""

    counts: PassageCounts = field(default_factory=PassageCounts)
    skipped: list[Skipped] = field(default_factory=list)
    strict: bool = False

    def skip(self, skipped: Skipped) -> None:
        """Note what could not be read; if `strict`, refuse it."""
        if self.strict:
            raise CorpusError(f"{skipped.source}: {skipped.reason}")
        self.skipped.append(skipped)

    def left_out(self) -> dict[str, int]:
        """Counts for the manifest."""
        return {
            "documents": self.counts.documents,
            "duplicates": self.counts.duplicates,
            "empty": self.counts.empty,
            "skipped": len(self.skipped),
        }


@dataclass(frozen=True)
class Fingerprint:
    """A file before it is read."""

    record: FileRecord
    status: tuple[int, ...]

    @classmethod
    def of(cls, file: SourceFile) -> Fingerprint | None:
        """None if the file cannot be read."""
        try:
            status = _status(file.path)
            modified, digest = int(file.path.stat().st_mtime), sha256(file.path)
            return cls(FileRecord(source=file.source, name=file.id, sha256=digest, modified=modified), status)
        except OSError:
            return None

    def is_current(self, path: Path) -> bool:
        """Whether the file has not been written to since."""
        try:
            return _status(path) == self.status
        except OSError:
            return False


def _status(path: Path) -> tuple[int, ...]:
    """A value that changes when the file is written to."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


class Chunked(NamedTuple):
    """A document as passages, possibly empty or repeated ones."""

    id: str
    source: str
    passages: Iterable[Passage]
    is_parsed: bool
    """False: the passages are the index's own."""


class CorpusReading:
    """One pass over the files of a corpus."""

    def __init__(
        self,
        report: BuildReport,
        chunking: Chunking,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        known: Mapping[str, FileRecord] | None = None,
        indexed: Callable[[str], Iterator[Passage]] = lambda source: iter(()),
        owners: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            report: kept up to date.
            chunking: how documents become passages.
            tokenizer: the embedder's, for chunking by tokens.
            known: records of files whose passages are all `indexed`, by source.
            indexed: the passages of a source, those of a document together.
            owners: documents that stay in the index, and their sources: their ids cannot be used.

        Raises:
            CorpusError: as `check_tokenizer`.
        """
        check_tokenizer(chunking, tokenizer)
        self.report = report
        self.records: dict[str, FileRecord] = {}
        """By source, of the files read so far that the next update may reuse."""
        self.texts = Seen()
        """`text_key` of each text."""
        self.documents = Seen()
        """Ids of the documents read."""
        self.passages = Seen()
        """Ids of the passages kept."""
        self._sources = Seen()
        self._chunking, self._tokenizer = chunking, tokenizer
        self._known, self._indexed, self._owners = known or {}, indexed, owners or {}

    def read(self, entries: Iterable[Entry], files: FileReader) -> Iterator[Passage]:
        """The passages of the files that are parsed, without empty and repeated ones; reused files only leave ids.

        A file with the name, SHA-256 and modification time of its record is reused. Its passages count like those of a
        parsed file, so one that repeats the text of a passage read before it is dropped.

        Raises:
            CorpusError: the connection to a dataset broke, or with `report.strict` something cannot be read.
        """
        counts = self.report.counts
        for entry, fingerprint, documents in files.ahead(self._start(entry, files) for entry in entries):
            duplicates, complete = counts.duplicates, True
            for document in documents:
                if not isinstance(document, Skipped) and (owner := self._owner(document.id)):
                    document = Skipped(document.source, f"its id {document.id!r} is already used by {owner}")
                if isinstance(document, Skipped):
                    self.report.skip(document)
                    complete = False
                    continue
                kept = False
                for passage in unique_passages(document.passages, counts, self.texts):
                    kept = True
                    self.passages.add(passage.id)
                    if document.is_parsed:
                        yield passage
                complete = complete and kept
            if isinstance(entry, SourceFile):
                complete = complete and counts.duplicates == duplicates
                if not self._sources.add(entry.source):  # a source that lies in another one is read twice
                    self.records.pop(entry.source, None)
                elif complete and fingerprint is not None and fingerprint.is_current(entry.path):
                    self.records[entry.source] = fingerprint.record

    def _start(self, entry: Entry, files: FileReader) -> tuple[Entry, Fingerprint | None, Iterator[Chunked | Skipped]]:
        fingerprint = Fingerprint.of(entry) if isinstance(entry, SourceFile) else None
        if fingerprint is not None and self._known.get(fingerprint.record.source) == fingerprint.record:
            return entry, fingerprint, self._reuse(fingerprint.record.source)
        return entry, fingerprint, self._chunk(files.start(entry))

    def _reuse(self, source: str) -> Iterator[Chunked]:
        for id, passages in groupby(self._indexed(source), lambda passage: passage.document):
            yield Chunked(id, source, passages, is_parsed=False)

    def _chunk(self, documents: Iterator[Document | Skipped]) -> Iterator[Chunked | Skipped]:
        for document in documents:
            if isinstance(document, Skipped):
                yield document
            else:
                passages = split_document(document, self._chunking, self._tokenizer)
                yield Chunked(document.id, document.source, passages, is_parsed=True)

    def _owner(self, id: str) -> str | None:
        """Describes the document that has taken an id, which is from now on taken."""
        if id in self._owners:
            return f"a document of {self._owners[id]}"
        return None if self.documents.add(id) else "an earlier document"
