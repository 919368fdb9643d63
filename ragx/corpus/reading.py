"""Read files of every format. Those that need a parser, and wiki pages, are parsed several at a time."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ragx.config import DatasetSource
from ragx.corpus.archive import unpack
from ragx.corpus.document import Document, Skipped
from ragx.corpus.extract.parser import MAX_MEMORY_BYTES, MAX_SECONDS, Parser
from ragx.corpus.formats import EXTRACTED
from ragx.corpus.rows import read_csv, read_dpr, read_jsonl
from ragx.corpus.sources import Entry, SourceFile, find_files, unreadable
from ragx.corpus.text import read_text
from ragx.corpus.wiki.dump import Page
from ragx.util.compressed import UNREADABLE
from ragx.util.text import without_surrogates

MAX_WORKERS = 8
STARTED_PER_WORKER = 4
"""Files, or wiki pages, that are being parsed or wait for their turn: one slow file then delays no other."""

T = TypeVar("T")


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
        self.workers = workers or min(MAX_WORKERS, _cores())
        self._threads = ThreadPoolExecutor(self.workers, "ragx-parse")
        self._rows, *parsers = (Parser(max_seconds, max_memory_bytes, options) for _ in range(self.workers + 1))
        self._parsers = parsers
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

    def read(self, entries: Iterable[Entry]) -> Iterator[Document | Skipped]:
        """The documents of files and datasets, in order."""
        for documents in self.ahead(map(self.start, entries)):
            yield from documents

    def start(self, entry: Entry) -> Iterator[Document | Skipped]:
        """The documents of a file or dataset. A file of `EXTRACTED` is parsed from now on, others when iterated.

        Iterate over one at a time.
        """
        if isinstance(entry, Skipped):
            return iter([_valid(entry)])
        if not isinstance(entry, SourceFile):
            return entry.documents
        if entry.format in EXTRACTED:
            return self._results([self._threads.submit(self._parse, entry)])
        return map(_valid, self._stream(entry))

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

    def _parse(self, file: SourceFile) -> list[Document | Skipped]:
        with self._parser() as parser:
            return [_dated(entry, file.path) for entry in parser.read_file(file.path, file.id, file.format)]

    def _stream(self, file: SourceFile) -> Iterator[Document | Skipped]:
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
                    for entry in self._rows.read_mails(file.path, file.id):
                        yield _dated(entry, file.path)
                case "mediawiki":
                    yield from self._wiki_articles(file.path)
                case "archive":
                    yield from self._members(file)
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

    def _members(self, archive: SourceFile) -> Iterator[Document | Skipped]:
        """The documents of the files in an archive, whose ids begin with that of the archive."""

        def start(member: tuple[str, Path] | Skipped) -> tuple[str, str, Iterator[Document | Skipped]]:
            if isinstance(member, Skipped):
                return "", "", iter([member])
            name, path = member
            (entry,) = find_files([path])
            if isinstance(entry, SourceFile):
                entry = replace(entry, id=f"{archive.id}/{without_surrogates(name)}")
            return name, str(path), self.start(entry)

        with TemporaryDirectory(prefix="ragx-", ignore_cleanup_errors=True) as folder:
            for name, path, entries in self.ahead(map(start, unpack(archive.path, Path(folder)))):
                for entry in entries:
                    if isinstance(entry, Document):
                        yield replace(entry, source=str(archive.path))
                    elif path:
                        source = entry.source.replace(path, f"{archive.path}/{name}", 1)
                        yield replace(entry, source=source, unreadable=False)
                    else:
                        yield entry

    @contextmanager
    def _parser(self) -> Iterator[Parser]:
        parser = self._idle.get()
        try:
            yield parser
        finally:
            self._idle.put(parser)


def _valid(entry: Document | Skipped) -> Document | Skipped:
    """A copy without lone surrogates, which a file name that is not UTF-8 brings in."""
    if isinstance(entry, Skipped):
        return replace(entry, source=without_surrogates(entry.source), reason=without_surrogates(entry.reason))
    source = without_surrogates(entry.source)
    return entry if source == entry.source else replace(entry, source=source)


def _dated(entry: Document | Skipped, path: Path) -> Document | Skipped:
    """The document with the time when its file was modified among its metadata."""
    if isinstance(entry, Skipped):
        return entry
    modified = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
    metadata = {"modified": modified} | (json.loads(entry.metadata) if entry.metadata else {})
    return replace(entry, metadata=json.dumps(metadata, ensure_ascii=False))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
