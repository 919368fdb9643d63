"""Read files of every format. Those that need a parser, and wiki pages, are parsed several at a time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ragx.config import DatasetSource
from ragx.corpus.archive import decompress, unpack
from ragx.corpus.document import Document, Skipped
from ragx.corpus.extract.parser import MAX_MEMORY_BYTES, MAX_SECONDS, Attachment, Parser
from ragx.corpus.formats import EXTRACTED, attachment_format
from ragx.corpus.rows import read_csv, read_dpr, read_jsonl
from ragx.corpus.sources import Entry, SourceFile, find_files, unreadable
from ragx.corpus.text import read_text
from ragx.corpus.wiki.dump import Page
from ragx.util.compressed import UNREADABLE
from ragx.util.device import cpu_cores
from ragx.util.text import without_surrogates

MAX_WORKERS = 8
STARTED_PER_WORKER = 4
"""Files, or wiki pages, that are being parsed or wait for their turn: one slow file then delays no other."""

MAX_DEPTH = 2
"""Levels of attachments that are read: those of a mail, and those of a mail attached to it."""

T = TypeVar("T")
_Started = tuple[str, Path | None, Iterator[Document | Skipped]]


def read_documents(
    sources: Iterable[Path | DatasetSource],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    archives: bool = False,
) -> Iterator[Document | Skipped]:
    """All documents of files, folders and datasets, and what cannot be read; arguments and errors as `find_files`.

    Raises:
        CorpusError: while iterating: the connection to a dataset broke.
    """
    return _documents(find_files(sources, include=include, exclude=exclude, archives=archives))


def _documents(entries: Iterator[Entry]) -> Iterator[Document | Skipped]:
    with FileReader() as reader:
        yield from reader.read(entries)


class FileReader:
    """Parses files in limited child processes (`extract.parser`), started when first needed. Close it when done."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        max_seconds: float = MAX_SECONDS,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        options: Mapping[str, object] | None = None,
    ) -> None:
        """Args: `workers`: processes, None: one per CPU core, up to `MAX_WORKERS`; the others are those of `Parser`."""
        self.workers = workers or min(MAX_WORKERS, cpu_cores())
        self._threads = ThreadPoolExecutor(self.workers, "ragx-parse")
        self._rows, *parsers = (Parser(max_seconds, max_memory_bytes, options) for _ in range(self.workers + 1))
        self._parsers = parsers
        self._folder = TemporaryDirectory(prefix="ragx-", ignore_cleanup_errors=True)
        self._numbers = count()
        self._idle: SimpleQueue[Parser] = SimpleQueue()
        for parser in parsers:  # as many as threads, so that none waits for a parser
            self._idle.put(parser)

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, also in the middle of a file."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for parser in self._parsers:
            parser.kill()
        self._threads.shutdown()
        for parser in (self._rows, *self._parsers):
            parser.close()
        self._folder.cleanup()

    def read(self, entries: Iterable[Entry]) -> Iterator[Document | Skipped]:
        """The documents of files and datasets, in order."""
        for documents in self.ahead(map(self.start, entries)):
            yield from documents

    def start(self, entry: Entry, depth: int = 0) -> Iterator[Document | Skipped]:
        """The documents of a file or dataset. A file of `EXTRACTED` is parsed from now on, others when iterated.

        Iterate over one at a time. `depth`: of mails around an attachment.
        """
        if isinstance(entry, Skipped):
            return iter([_valid(entry)])
        if not isinstance(entry, SourceFile):
            return entry.documents
        if entry.format in EXTRACTED:
            parsed = self._threads.submit(self._parse, entry, self._attachments(depth))
            return map(_valid, self._contents(entry, _result(parsed), depth + 1))
        return map(_valid, self._stream(entry, depth))

    def ahead(self, started: Iterable[T]) -> Iterator[T]:
        """The items of a lazy iterable in which each step starts work, some of them taken in advance."""
        queue: deque[T] = deque()
        for item in started:
            queue.append(item)
            if len(queue) > self.workers * STARTED_PER_WORKER:
                yield queue.popleft()
        yield from queue

    def _results(self, futures: Iterable[Future[list[Document | Skipped]]]) -> Iterator[Document | Skipped]:
        for future in futures:
            yield from map(_valid, future.result())

    def _attachments(self, depth: int) -> str:
        """A new folder for the attachments of a file, if it is a mail; empty if it lies too deep itself."""
        return str(Path(self._folder.name, str(next(self._numbers)))) if depth < MAX_DEPTH else ""

    def _parse(self, file: SourceFile, attachments: str) -> list[Document | Skipped | Attachment]:
        with self._parser() as parser:
            entries = parser.read_file(file.path, file.id, file.format, attachments)
            return [_dated(entry, file.path) for entry in entries]

    def _stream(self, file: SourceFile, depth: int) -> Iterator[Document | Skipped]:
        try:
            match file.format:
                case "jsonl":
                    yield from read_jsonl(file.path)
                case "csv":
                    yield from read_csv(file.path)
                case "dpr":
                    yield from read_dpr(file.path)
                case "parquet":
                    yield from self._rows.read_rows(file.path, "parquet")
                case "mbox":
                    mails = self._rows.read_mails(file.path, file.id, self._attachments(depth))
                    yield from self._contents(file, (_dated(entry, file.path) for entry in mails), depth + 1)
                case "mediawiki":
                    yield from self._wiki_articles(file.path)
                case "archive" | "compressed":
                    open_file = unpack if file.format == "archive" else decompress
                    with TemporaryDirectory(prefix="ragx-", ignore_cleanup_errors=True) as folder:
                        yield from self._contents(file, open_file(file.path, Path(folder)), depth)
                case _:
                    for entry in read_text(file.path, file.id):
                        yield _dated(entry, file.path)
        except UNREADABLE as error:
            yield unreadable(file.path, error)

    def _wiki_articles(self, path: Path) -> Iterator[Document | Skipped]:
        """The articles of a dump (namespace 0, without redirects) as plain text, with their titles as ids.

        One process reads the XML, the others strip the pages of their markup. If the XML is damaged, the articles
        before the damage are read.
        """

        def article(part: dict[str, Any]) -> list[Document | Skipped]:
            if "wikitext" not in part:
                return [Skipped(**part)]
            page = Page(**part)
            with self._parser() as parser:
                return [parser.read_wiki_page(path, page.title, page.wikitext, page.media_namespaces)]

        with closing(self._rows.parts(path, "mediawiki")) as parts:
            yield from self._results(self.ahead(self._threads.submit(article, part) for part in parts))

    def _contents(
        self, file: SourceFile, members: Iterable[Document | Skipped | Attachment | tuple[str, Path]], depth: int
    ) -> Iterator[Document | Skipped]:
        """The documents of an archive or of mails, and those of the files in it, whose ids begin with its own.

        The files in it are deleted once they are read.
        """

        def start(member: Document | Skipped | Attachment | tuple[str, Path]) -> _Started:
            if isinstance(member, Document | Skipped):
                return "", None, iter([member])
            name, path = member
            (entry,) = find_files([path])
            if isinstance(entry, SourceFile):
                format = (attachment_format(path) if isinstance(member, Attachment) else None) or entry.format
                entry = replace(entry, id=f"{file.id}/{without_surrogates(name)}", format=format)
            return name, path, self.start(entry, depth)

        for name, path, entries in self.ahead(map(start, members)):
            for entry in entries:
                if path is None:
                    yield entry
                elif isinstance(entry, Document):
                    yield replace(entry, source=str(file.path))
                else:
                    source = entry.source.replace(str(path), f"{file.path}/{name}", 1)
                    yield replace(entry, source=source, unreadable=False)
            if path is not None:
                path.unlink(missing_ok=True)

    @contextmanager
    def _parser(self) -> Iterator[Parser]:
        parser = self._idle.get()
        try:
            yield parser
        finally:
            self._idle.put(parser)


def _result(future: Future[list[Document | Skipped | Attachment]]) -> Iterator[Document | Skipped | Attachment]:
    yield from future.result()


def _valid(entry: Document | Skipped) -> Document | Skipped:
    """A copy without lone surrogates, which a file name that is not UTF-8 brings in."""
    if isinstance(entry, Skipped):
        return replace(entry, source=without_surrogates(entry.source), reason=without_surrogates(entry.reason))
    source = without_surrogates(entry.source)
    return entry if source == entry.source else replace(entry, source=source)


def _dated(entry: T, path: Path) -> T:
    """A document with the time when its file was modified among its metadata; anything else as it is."""
    if not isinstance(entry, Document):
        return entry
    modified = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
    metadata = {"modified": modified} | (json.loads(entry.metadata) if entry.metadata else {})
    return replace(entry, metadata=json.dumps(metadata, ensure_ascii=False))
