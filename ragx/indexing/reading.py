"""Files -> passages, for a build and an update: reuse or parse, chunk and deduplicate each file, then record it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ragx.config import Chunking
from ragx.corpus import Skipped, unique_passages
from ragx.corpus.chunking import check_tokenizer, split_document
from ragx.corpus.language import LanguageCheck
from ragx.corpus.reading import FileReader
from ragx.corpus.seen import Seen
from ragx.corpus.sources import Entry, SourceFile
from ragx.indexing.file_records import Deletion, FileRecord, SkippedRecord
from ragx.indexing.report import BuildReport
from ragx.types import Passage
from ragx.util.files import sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ragx.corpus.document import Document


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
            return cls(FileRecord(source=file.source, name=file.id, sha256=sha256(file.path)), status)
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
        tokenizer: Tokenizer | None,
        window: int | None = None,
        *,
        known: Mapping[str, FileRecord] | None = None,
        deletions: Mapping[str, Deletion] | None = None,
        indexed: Callable[[str], Iterator[Passage]] = lambda source: iter(()),
        owners: Collection[str] = (),
    ) -> None:
        """Prepare to read.

        Args:
            report: kept up to date.
            chunking: how documents become passages.
            tokenizer: the embedder's.
            window: tokens that the embedder reads, as of `split_document`.
            known: records of files whose passages are all `indexed`, by source.
            deletions: documents that stay deleted while their file is as it was, by source.
            indexed: the passages of a source, those of a document together.
            owners: ids of documents that stay in the index, which other documents cannot have.

        Raises:
            CorpusError: as `check_tokenizer`.
        """
        check_tokenizer(chunking, tokenizer)
        self.report = report
        self.records: dict[str, FileRecord] = {}
        """By source, of the files read so far that the next update may reuse."""
        self.deletions: dict[str, Deletion] = {}
        """By source, of the files read so far: those that hold on."""
        self.texts = Seen()
        """`text_key` of each text."""
        self.documents = Seen()
        """Ids of the documents read."""
        self.passages = Seen()
        """Ids of the passages kept."""
        self.language = LanguageCheck()
        """Of the documents that are parsed."""
        self._sources = Seen()
        self._chunking, self._tokenizer, self._window = chunking, tokenizer, window
        self._known, self._indexed, self._owners = known or {}, indexed, owners
        self._deletions = deletions or {}

    def read(self, entries: Iterable[Entry], files: FileReader) -> Iterator[Passage]:
        """The passages of the files that are parsed, without empty and repeated ones; reused files only leave ids.

        A file with the name and SHA-256 of its record is reused. Its passages count like those of a
        parsed file, so one that repeats the text of a passage read before it is dropped. A document with the id of an
        earlier one gets its file's id before its own.

        Raises:
            CorpusError: the connection to a dataset broke, or with `report.strict` something cannot be read.
        """
        counts = self.report.counts
        for entry, fingerprint, documents in files.ahead(self._start(entry, files) for entry in entries):
            duplicates, complete, renamed = counts.duplicates, True, 0
            missing: list[SkippedRecord] = []
            name = entry.id if isinstance(entry, SourceFile) else ""
            for document in documents:
                if isinstance(document, Chunked):
                    if self._is_deleted(document, name, fingerprint):
                        continue
                    given, document = document.id, self._with_own_id(document, name)
                    renamed += isinstance(document, Chunked) and document.id != given
                if isinstance(document, Skipped):
                    self.report.skip(document)
                    missing.append(SkippedRecord(**asdict(document)))
                    complete = complete and document.partial
                    continue
                kept = False
                for passage in unique_passages(document.passages, counts, self.texts):
                    kept = True
                    self.passages.add(passage.id)
                    if document.is_parsed:
                        yield passage
                complete = complete and kept
            if renamed:
                which = f"{renamed} documents" if renamed > 1 else "a document"
                self.report.notes.append(f"{name or 'a dataset'}: {which} got new ids, because others have theirs")
            if isinstance(entry, SourceFile):
                complete = complete and not renamed and counts.duplicates == duplicates
                if not self._sources.add(entry.source):  # a source that lies in another one is read twice
                    self.records.pop(entry.source, None)
                elif complete and fingerprint is not None and fingerprint.is_current(entry.path):
                    self.records[entry.source] = fingerprint.record.model_copy(update={"missing": tuple(missing)})

    def _start(self, entry: Entry, files: FileReader) -> tuple[Entry, Fingerprint | None, Iterator[Chunked | Skipped]]:
        fingerprint = Fingerprint.of(entry) if isinstance(entry, SourceFile) else None
        known = fingerprint and self._known.get(fingerprint.record.source)
        if fingerprint and known and known.model_copy(update={"missing": ()}) == fingerprint.record:
            self._keep_deletion(known.source, fingerprint)
            return entry, fingerprint, self._reuse(known)
        return entry, fingerprint, self._chunk(files.start(entry))

    def _reuse(self, known: FileRecord) -> Iterator[Chunked | Skipped]:
        for id, passages in groupby(self._indexed(known.source), lambda passage: passage.document):
            yield Chunked(id, known.source, passages, is_parsed=False)
        for missing in known.missing:
            yield Skipped(**missing.model_dump())

    def _chunk(self, documents: Iterator[Document | Skipped]) -> Iterator[Chunked | Skipped]:
        for document in documents:
            if isinstance(document, Skipped):
                yield document
            else:
                self.language.add(document.text)
                passages = split_document(document, self._chunking, self._tokenizer, self._window)
                yield Chunked(document.id, document.source, passages, is_parsed=True)

    def _is_deleted(self, document: Chunked, name: str, fingerprint: Fingerprint | None) -> bool:
        """Whether a user deleted the document, and its file is still as it was then."""
        deletion = self._keep_deletion(document.source, fingerprint)
        return deletion is not None and not {document.id, _own_id(name, document)}.isdisjoint(deletion.deleted)

    def _keep_deletion(self, source: str, fingerprint: Fingerprint | None) -> Deletion | None:
        """What was deleted of a source, if it is still as it was then; it stays deleted at the next update too."""
        deletion = self._deletions.get(source)
        if deletion is None or deletion.sha256 != (fingerprint.record.sha256 if fingerprint else ""):
            return None
        self.deletions[source] = deletion
        return deletion

    def _with_own_id(self, document: Chunked, name: str) -> Chunked | Skipped:
        """The document under an id that no other has; `name`: the id of its file."""
        if self._claim(document.id):
            return document
        id = _own_id(name, document)
        if not self._claim(id):
            return Skipped(document.source, f"its id {document.id!r} is already used by an earlier document")
        passages = (replace(passage, id=f"{id}#{passage.position}", document=id) for passage in document.passages)
        return Chunked(id, document.source, passages, is_parsed=True)

    def _claim(self, id: str) -> bool:
        return id not in self._owners and self.documents.add(id)


def _own_id(name: str, document: Chunked) -> str:
    return f"{name or document.source}/{document.id}"
