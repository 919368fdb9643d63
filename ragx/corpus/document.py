"""A document, and the report of one that cannot be read."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from dataclasses import dataclass

from ragx.util.text import without_surrogates

MAX_ID_CHARS = 1000
"""Longest id of a document, which each of its passages repeats."""
_LONGEST_RUN = 30
"""Combining marks on one character, from Unicode's Stream-Safe Text Format (UAX #15, section 13)."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in the text of a document."""

    start: int
    """Character offset of its line."""
    level: int
    """1 for the outermost."""
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be chunked into passages."""

    id: str
    """The file's path relative to its source folder, the row's own id, or the wiki page's title."""
    title: str
    text: str
    """NFC-normalised."""
    source: str
    """Absolute path of the file, or name of the dataset."""
    whole: bool = False
    """The text is a ready-made passage (DPR) and is not chunked."""
    headings: tuple[Heading, ...] = ()
    """In the order of the text."""
    paged: bool = False
    """Form feeds in the text begin new pages."""
    metadata: str = ""
    """A JSON object (author, front matter, fields of a row, …), or nothing."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, a row or part of it that was not read."""

    source: str
    """A path, or `path:line`."""
    reason: str
    """One line."""
    unreadable: bool = False
    """The cause is the disk, the permissions or damage, so the file may become readable again."""
    unsupported: bool = False
    """A file of a format that ragx does not read, found in a folder."""
    partial: bool = False
    """The document is indexed; the reason says what of it is missing."""

    @property
    def file(self) -> str:
        """`source` without the line."""
        file, _, line = self.source.rpartition(":")
        return file if line.isdigit() else self.source


def normalise(text: str) -> str:
    """`text` in Unicode normal form C; lone surrogates, which UTF-8 cannot hold, become U+FFFD.

    Runs of more than 30 combining marks are broken up by U+034F, because sorting a run takes quadratic time.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _long_runs().sub("\\g<0>\u034f", without_surrogates(text)))


@functools.cache
def _long_runs() -> re.Pattern[str]:
    """Matches a run of combining marks of the greatest length if another mark follows."""
    points = (point for point in range(0x300, sys.maxunicode + 1) if not 0xD800 <= point < 0xE000)
    marks = [point for point in points if unicodedata.combining(unicodedata.normalize("NFD", chr(point))[0])]
    firsts = [mark for mark, before in zip(marks, [0, *marks], strict=False) if mark != before + 1]
    lasts = [mark for mark, after in zip(marks, [*marks[1:], 0], strict=True) if mark + 1 != after]
    ranges = "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(firsts, lasts, strict=True))
    return re.compile(f"[{ranges}]{{{_LONGEST_RUN}}}(?=[{ranges}])")


def one_line(text: str, limit: int = 300) -> str:
    """`text` with every run of whitespace as one space, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
