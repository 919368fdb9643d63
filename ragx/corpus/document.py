"""A document, and what is reported in the place of one that cannot be read."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be cut into passages."""

    id: str
    """The file's path relative to the folder given, the row's own id, or the wiki page's title."""
    title: str
    text: str
    """NFC-normalised."""
    source: str
    """Absolute path of the file, or name of the dataset."""
    whole: bool = False
    """The text is a ready-made passage (DPR) and is never split."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or one row of it, that was not read."""

    source: str
    """A path, or `path:line`."""
    reason: str
    """One line."""
    unreadable: bool = False
    """The disk or the permissions are at fault, or the file is damaged: it may be readable again."""


def normalise(text: str) -> str:
    """`text` in Unicode normal form C; lone surrogates, which UTF-8 cannot hold, become U+FFFD."""
    return unicodedata.normalize("NFC", without_surrogates(text))


def without_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # through UTF-16 so that a pair of surrogates becomes the one character it stands for
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def one_line(text: str, limit: int = 300) -> str:
    """`text` with every run of whitespace as one space, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
