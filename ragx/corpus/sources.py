"""Read all the sources of a corpus: the one place that knows every format."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

from ragx.config import DatasetSource
from ragx.corpus.dataset import open_dataset
from ragx.corpus.document import Document, Skipped, one_line
from ragx.corpus.extract.pool import Parser
from ragx.corpus.folder import walk
from ragx.corpus.formats import KNOWN, UNREADABLE, Format, format_of
from ragx.corpus.rows import read_dpr, read_jsonl
from ragx.corpus.seen import Seen
from ragx.corpus.text import read_text
from ragx.corpus.wiki.dump import Page
from ragx.errors import CorpusError
from ragx.util.text import without_surrogates

Unchanged = Callable[[Path, str], Iterable[Document] | None]
"""Of a file, and the id that a document of the whole file has: its documents, if it need not be parsed for them."""


def read_documents(
    sources: Iterable[Path | DatasetSource],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gone: Collection[Path] = (),
    prefixed: bool = False,
    unchanged: Unchanged = lambda path, id: None,
    on_skip: Callable[[Skipped], None],
) -> Iterator[Document]:
    """The documents of files, folders and datasets, in the order given, folders sorted by name.

    A document of a file has as id the file's path relative to its folder, after the folder's name if several folders
    are given or `prefixed`, or the file's name if the file itself is given; names that clash get the folders above them
    in front.
    `include` and `exclude` are globs on paths relative to a folder, see `folder.walk`. In folders, files of unknown
    formats are passed over. What else cannot be read goes to `on_skip`, and so does a document with an id used before.
    Sources that are `gone` are files that were there once: they are not read, but other files keep the names that tell
    them apart from these.
    `unchanged` is asked about each file of a known format when everything before it has been read.

    Raises:
        CorpusError: a path or dataset does not exist. While iterating: the connection to a dataset broke.
    """
    opened: list[Path | Iterator[Document | Skipped]] = []
    for source in sources:
        if isinstance(source, DatasetSource):
            opened.append(open_dataset(source))
        elif (path := Path(os.path.abspath(source))) not in opened:  # noqa: PTH100  (resolve() would follow links)
            try:
                if path not in gone:
                    path.stat()
            except OSError as error:
                raise CorpusError(f"cannot read {source}: {error.strerror}") from None
            opened.append(path)
    return _unique(_read(opened, include, exclude, gone, prefixed, unchanged), on_skip)


def _unique(documents: Iterator[Document | Skipped], on_skip: Callable[[Skipped], None]) -> Iterator[Document]:
    ids = Seen()
    for document in documents:
        if isinstance(document, Skipped):
            source, reason = without_surrogates(document.source), without_surrogates(document.reason)
            on_skip(replace(document, source=source, reason=reason))
        elif not ids.add(document.id):
            on_skip(Skipped(document.source, f"its id {document.id!r} is that of an earlier document"))
        else:
            source = without_surrogates(document.source)
            yield document if source == document.source else replace(document, source=source)


def _read(
    opened: Sequence[Path | Iterator[Document | Skipped]],
    include: Sequence[str],
    exclude: Sequence[str],
    gone: Collection[Path],
    prefixed: bool,
    unchanged: Unchanged,
) -> Iterator[Document | Skipped]:
    paths = [source for source in opened if isinstance(source, Path)]
    folders = _names([path for path in paths if path.is_dir()])
    files = _names([path for path in paths if path not in folders])
    with closing(Parser()) as parser:
        for source in opened:
            if not isinstance(source, Path):
                yield from source
            elif source in gone:
                continue
            elif source in folders:
                prefix = f"{folders[source]}/" if prefixed or len(folders) > 1 else ""
                for found in walk(source, include, exclude):
                    if isinstance(found, Skipped):
                        yield found
                    else:
                        path, relative = found
                        yield from _read_file(path, prefix + relative, parser, unchanged, wanted=bool(include))
            elif source.is_file():
                yield from _read_file(source, files[source], parser, unchanged, wanted=True, look_inside=True)
            else:
                yield Skipped(str(source), "is not a regular file")


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """For each path its name, preceded by as many of the folders above as it takes to tell all apart."""
    for depth in count(1):
        names = {path: "/".join(path.parts[-depth:]).lstrip("/") for path in paths}
        if len(set(names.values())) == len(paths):
            break
    return names


def _read_file(
    path: Path, id: str, parser: Parser, unchanged: Unchanged, *, wanted: bool, look_inside: bool = False
) -> Iterator[Document | Skipped]:
    """`wanted`: the user asked for this very file, so that an unknown format is worth a word."""
    id = without_surrogates(id)
    try:
        format = format_of(path, look_inside=look_inside)
        if format is None:
            if wanted:
                yield Skipped(str(path), f"is of an unknown format; known are {KNOWN}")
        elif (documents := unchanged(path, id)) is not None:
            yield from documents
        else:
            yield from _parse(path, id, parser, format)
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield Skipped(str(path), f"cannot be read: {one_line(reason)}", unreadable=True)


def _parse(path: Path, id: str, parser: Parser, format: Format) -> Iterator[Document | Skipped]:
    match format:
        case "text":
            yield read_text(path, id)
        case "html" | "pdf" | "docx":
            yield parser.read_file(path, id, format)
        case "jsonl":
            yield from read_jsonl(path)
        case "parquet":
            yield from parser.read_rows(path, "parquet")
        case "dpr":
            yield from read_dpr(path)
        case "mediawiki":
            yield from _read_mediawiki(path, parser)


def _read_mediawiki(path: Path, parser: Parser) -> Iterator[Document | Skipped]:
    """The articles (namespace 0, redirects left out) as plain text, with their title as id.

    One process reads the XML, `parser`'s strips the pages of their markup. Where the XML is damaged the articles before
    that are read.
    """
    with closing(Parser()) as xml:
        for part in xml.parts(path, "mediawiki"):
            if "wikitext" in part:
                page = Page(**part)
                yield parser.read_wiki_page(path, page.title, page.wikitext, page.media_namespaces)
            else:
                yield Skipped(**part)
