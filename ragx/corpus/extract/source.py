"""The text of a file whose format is text with markup."""

from __future__ import annotations

from pathlib import Path

from ragx.corpus.encoding import BINARY, decode
from ragx.corpus.extract.parsed import UnreadableError, clean


def read_source(path: Path) -> tuple[str, list[str]]:
    """The text of a file, clean, and what of it could not be decoded.

    Raises:
        UnreadableError: it is a binary file.
    """
    decoded = decode(path.read_bytes())
    if decoded is None:
        raise UnreadableError(BINARY)
    return clean(decoded.text), list(decoded.notices)
