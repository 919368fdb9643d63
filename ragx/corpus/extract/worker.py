"""Child process that parses files and wiki pages, one at a time. `parser.py` runs this file by its path.

A message is the length of its JSON in 4 bytes, big-endian, then the JSON. The reply to `{"format", "path"}`, or for a
page `{"format": "wikitext", "wikitext", "media_namespaces"}`, is `{"title", "text"}` or `{"reason"}`. For a format of
`STREAMS` the replies are any number of `{"parts": […], "last": false}`, then one whose `last` is true, or `{"reason"}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

MAX_FILE_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 200 << 20
"""Total of all members of a .docx."""
MAX_TEXT_CHARS = 50_000_000
PART_CHARS = 1 << 20
PART_SECONDS = 1.0
"""A part of a file of rows is sent when it reaches this much text or time."""

BLOCKS = ("p", "div", "br", "h1", "h2", "h3", "h4", "h5", "h6", "li", "tr", "td", "th", "pre", "blockquote", "dt", "dd")
"""HTML elements that are separated by line breaks."""

Parsed = tuple[str, str]
"""Title (may be empty) and text."""


class UnreadableError(Exception):
    """The message is the reason why the file is skipped."""


def parse_pdf(path: Path) -> Parsed:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    try:
        reader = PdfReader(path)
        texts, length = [], 0
        for page in reader.pages:
            texts.append(page.extract_text())
            length += len(texts[-1])
            if length > MAX_TEXT_CHARS:
                break  # `parse` refuses it
        title = str((reader.metadata and reader.metadata.title) or "")
    except (FileNotDecryptedError, DependencyError):
        raise UnreadableError("is encrypted: save it without a password") from None
    if not "".join(texts).strip():
        raise UnreadableError("has no text layer: it may be a scan that needs text recognition (OCR) first")
    return "" if title.lower() == "untitled" else title, "\n\n".join(text.strip() for text in texts)


def parse_docx(path: Path) -> Parsed:
    from mammoth import extract_raw_text

    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        raise UnreadableError("is not a Word document (.docx), or it is damaged or encrypted") from None
    if unpacked > MAX_UNPACKED_BYTES:
        raise UnreadableError(f"unpacks to {unpacked >> 20} MB; the limit is {MAX_UNPACKED_BYTES >> 20} MB")
    with path.open("rb") as file:
        return "", extract_raw_text(file).value


def parse_html(path: Path) -> Parsed:
    from lxml.etree import ParserError, strip_elements
    from lxml.html import HTMLParser, document_fromstring
    from trafilatura import bare_extraction
    from trafilatura.utils import decode_file

    markup = decode_file(path.read_bytes())
    try:
        page: Any = document_fromstring(markup.encode(), parser=HTMLParser(encoding="utf-8"))
    except ParserError:  # nothing but whitespace
        return "", ""
    title = next((element.text_content() for tag in ("title", "h1") for element in page.iter(tag)), "")
    content: Any = bare_extraction(markup, include_comments=False)
    if content is not None and content.text:
        return title, content.text
    # no main content found: all visible text
    strip_elements(page, "head", "script", "style", "noscript", "template", with_tail=False)
    for block in page.iter(*BLOCKS):
        block.text, block.tail = "\n" + (block.text or ""), "\n" + (block.tail or "")
    lines = (" ".join(line.split()) for line in page.text_content().split("\n"))
    return title, "\n".join(line for line in lines if line)


def parse_wikitext(wikitext: str, media_namespaces: list[str]) -> Parsed:
    from ragx.corpus.wiki.wikitext import plain_text

    return "", plain_text(wikitext, frozenset(media_namespaces))


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    from ragx.corpus.rows import read_parquet

    return map(asdict, read_parquet(path))


def wiki_pages(path: Path) -> Iterator[dict[str, Any]]:
    from ragx.corpus.wiki.dump import read_pages

    return map(asdict, read_pages(path))


PARSERS: dict[str, Callable[[Path], Parsed]] = {"pdf": parse_pdf, "docx": parse_docx, "html": parse_html}
STREAMS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {"parquet": parquet_rows, "mediawiki": wiki_pages}


def replies(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if request["format"] in STREAMS:
        yield from stream(request)
    else:
        yield parse(request)


def stream(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    parts, chars, started = [], 0, monotonic()
    try:
        for part in STREAMS[request["format"]](Path(request["path"])):
            parts.append(part)
            chars += sum(len(value) for value in part.values() if isinstance(value, str))
            if chars > PART_CHARS or monotonic() - started > PART_SECONDS:
                yield {"parts": parts, "last": False}
                parts, chars, started = [], 0, monotonic()
    except MemoryError:
        raise
    except Exception as error:  # as in `parse`
        if parts:
            yield {"parts": parts, "last": False}
        yield {"reason": f"{type(error).__name__}: {error}"}
    else:
        yield {"parts": parts, "last": True}


def parse(request: dict[str, Any]) -> dict[str, str]:
    try:
        if request["format"] == "wikitext":
            title, text = parse_wikitext(request["wikitext"], request["media_namespaces"])
        else:
            path = Path(request["path"])
            if path.stat().st_size > MAX_FILE_BYTES:
                raise UnreadableError(f"is larger than {MAX_FILE_BYTES >> 20} MB")
            title, text = PARSERS[request["format"]](path)
        if len(text) > MAX_TEXT_CHARS:
            raise UnreadableError(f"holds more than {MAX_TEXT_CHARS // 1_000_000} million characters of text: split it")
    except UnreadableError as error:
        return {"reason": str(error)}
    except MemoryError:
        raise
    except Exception as error:  # a parser can fail in any way on a damaged file
        return {"reason": f"cannot be parsed: {type(error).__name__}: {error}"}
    return {"title": title, "text": text}


def limit_memory(max_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    memory_bytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with the replies
    limit_memory(memory_bytes)
    sys.path.append(str(Path(__file__).parents[2]))  # the folder of ragx, in case it is not installed
    while header := sys.stdin.buffer.read(4):
        request = json.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))
        set_alarm(seconds + 1)  # the parent kills at `seconds`; this is in case it has died
        for message in replies(request):
            reply = json.dumps(message).encode()
            set_alarm(0)  # the parent may wait before it reads on
            pipe.write(len(reply).to_bytes(4, "big") + reply)
            pipe.flush()
            set_alarm(seconds + 1)
        set_alarm(0)


if __name__ == "__main__":
    main()
