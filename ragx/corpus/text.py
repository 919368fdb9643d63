"""Plain text files and logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ragx.corpus.document import Document, Skipped, normalise, one_line
from ragx.corpus.encoding import BINARY, decode

MAX_BYTES = 256 << 20
"""Larger text files are skipped: a whole document is held in memory. Files of rows have no limit."""


def read_text(path: Path, id: str, max_bytes: int = MAX_BYTES) -> Iterator[Document | Skipped]:
    """The file's text with line feeds as line ends, NFC-normalised; then what of it could not be read.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        yield Skipped(str(path), f"is larger than {max_bytes >> 20} MB: split it, or convert it to .jsonl")
    elif (decoded := decode(data)) is None:
        yield Skipped(str(path), BINARY)
    elif not decoded.text.strip():
        yield Skipped(str(path), "has no text")
    else:
        text = normalise(decoded.text.replace("\r\n", "\n").replace("\r", "\n"))
        yield Document(id, normalise(one_line(path.stem)), text, str(path))
        for notice in decoded.notices:
            yield Skipped(str(path), notice, partial=True)
