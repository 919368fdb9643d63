"""Which format a file has: by its name where that settles it, else by its first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

Format = Literal["text", "html", "pdf", "docx", "jsonl", "parquet", "dpr", "mediawiki"]

KNOWN = ".txt .md .rst .html .htm .pdf .docx .jsonl .parquet, DPR passages (.tsv) or a MediaWiki dump (.xml)"

_BY_SUFFIX: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".rst": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
}
_COMPRESSED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_TOLD_BY_CONTENT = {".tsv", ".xml", *_COMPRESSED}
_HEAD_BYTES = 4096

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a missing, forbidden or damaged file, compressed or not, can raise."""


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed when its name ends in .gz, .bz2 or .xz."""
    opened: IO[bytes] = _COMPRESSED.get(path.suffix.lower(), Path.open)(path, "rb")
    return opened


def format_of(path: Path, *, look_inside: bool = False) -> Format | None:
    """The format of a file, None when it is not known. `look_inside` opens the file whatever its name.

    Raises:
        OSError, EOFError, zlib.error, lzma.LZMAError: the file had to be opened and cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix in _COMPRESSED and Path(path.stem).suffix.lower() == ".jsonl":
        return "jsonl"
    if not look_inside and suffix not in _TOLD_BY_CONTENT:
        return None
    with open_bytes(path) as file:
        head = file.read(_HEAD_BYTES)
    if b"<mediawiki" in head.replace(b"\0", b""):  # without the zeros of UTF-16
        return "mediawiki"
    if head.removeprefix(b"\xef\xbb\xbf").splitlines()[:1] == [b"id\ttext\ttitle"]:
        return "dpr"
    return None
