"""Plain text, Markdown and reStructuredText files."""

from __future__ import annotations

import codecs
import io
import re
from itertools import pairwise
from pathlib import Path

from ragx.corpus.document import Document, Skipped, normalise, one_line

MAX_BYTES = 256 << 20
"""Larger text files are skipped: a whole document is held in memory. Files of rows have no limit."""

_SAMPLE_BYTES = 1 << 20
_TITLE_CHARS = 100_000
"""The part of the text that is searched for a title."""


def read_text(path: Path, id: str, max_bytes: int = MAX_BYTES) -> Document | Skipped:
    """The file's text, exactly as `open(path, encoding=…).read()` gives it, NFC-normalised.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        return Skipped(str(path), f"is larger than {max_bytes >> 20} MB: split it, or convert it to .jsonl")
    encoding = detect_encoding(data)
    if encoding is None:
        return Skipped(str(path), "looks like a binary file, not text")
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding=encoding).read()
    except UnicodeError:
        return Skipped(str(path), f"is neither UTF-8 nor {encoding}, as its beginning suggests")
    if "\0" in text:
        return Skipped(str(path), "looks like a binary file, not text")
    if not text.strip():
        return Skipped(str(path), "has no text")
    title = {".md": markdown_title, ".rst": rst_title}.get(path.suffix.lower(), lambda _: None)(text[:_TITLE_CHARS])
    return Document(id, normalise(one_line(title or path.stem)), normalise(text), str(path))


def detect_encoding(data: bytes) -> str | None:
    """UTF-8 if valid, UTF-16 if the bytes start with its mark, else the best guess; None for a binary file."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in data:
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        last = max(data.rfind(end, 0, _SAMPLE_BYTES) for end in (b"\n", b"\r"))  # cuts no character
        sample = data if len(data) <= _SAMPLE_BYTES else data[: last + 1 or _SAMPLE_BYTES]
        guess = from_bytes(sample).best()
        return guess.encoding if guess else None
    return "utf-8-sig"


def markdown_title(text: str) -> str | None:
    """The first heading (`# Title`, or a line underlined with `=`) outside fenced code."""
    fence = ""
    for line, below in pairwise([*text.splitlines(), ""]):
        if mark := re.match(r" {0,3}(```|~~~)", line):
            fence = "" if fence == mark[1] else fence or mark[1]
        elif fence:
            continue
        elif (mark := re.match(r" {0,3}#{1,6}[ \t]++", line)) and re.search(r"\w", line[mark.end() :]):
            heading = line[mark.end() :].rstrip(" \t")
            unmarked = heading.rstrip("#")
            return unmarked.rstrip(" \t") if unmarked.endswith((" ", "\t")) else heading
        elif re.search(r"\w", line) and re.fullmatch(r" {0,3}=+[ \t]*", below):
            return line.strip()
    return None


def rst_title(text: str) -> str | None:
    """The first line underlined with one repeated punctuation character, at least as long as the line."""
    for line, below in pairwise(text.splitlines()):
        underline = below.rstrip()
        if (
            re.search(r"\w", line)
            and re.fullmatch(r"([!-/:-@\[-`{-~])\1+", underline)
            and len(underline) >= len(line.rstrip())
        ):
            return line.strip()
    return None
