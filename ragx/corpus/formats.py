"""The format of a file, by its name or, where that is not enough, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ragx.util.compressed import COMPRESSED, open_bytes

Format = Literal[
    "text",
    "html",
    "pdf",
    "docx",
    "pptx",
    "xlsx",
    "xls",
    "odf",
    "epub",
    "eml",
    "msg",
    "mbox",
    "jsonl",
    "parquet",
    "dpr",
    "mediawiki",
]

SUFFIXES: dict[Format, str] = {
    "text": ".txt .md .rst",
    "html": ".html .htm .xhtml .xht",
    "pdf": ".pdf",
    "docx": ".docx .docm .dotx .dotm",
    "pptx": ".pptx .pptm .ppsx .ppsm .potx .potm",
    "xlsx": ".xlsx .xlsm .xltx .xltm",
    "xls": ".xls .xlt .xlsb",
    "odf": ".odt .ott .ods .ots .odp .otp .odg .fodt .fods .fodp .fodg",
    "epub": ".epub",
    "eml": ".eml .emlx",
    "msg": ".msg",
    "mbox": ".mbox .mbx",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
}
"""Suffixes of each format; files of the others are recognised by their first bytes (`BY_CONTENT`)."""
_BY_SUFFIX = {suffix: format for format, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
EXTRACTED = frozenset[Format](("html", "pdf", "docx", "pptx", "xlsx", "xls", "odf", "epub", "eml", "msg"))
"""Formats whose files are parsed in a child process, by the module of `extract` that has their name."""
BY_CONTENT: dict[Format, str] = {
    "dpr": '.tsv with the header "id, text, title"',
    "mediawiki": f".xml dumps of MediaWiki, also {' '.join(COMPRESSED)}",
}
_BY_CONTENT = {".tsv", ".xml", *COMPRESSED}
_HEAD_BYTES = 4096


def format_of(path: Path, *, look_inside: bool = False) -> Format | None:
    """The format of a file; None if unknown. `look_inside` opens the file whatever its name.

    Raises:
        OSError, EOFError, zlib.error, lzma.LZMAError: the file had to be opened and cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix in COMPRESSED and Path(path.stem).suffix.lower() == ".jsonl":
        return "jsonl"
    if not look_inside and suffix not in _BY_CONTENT:
        return None
    with open_bytes(path) as file:
        head = file.read(_HEAD_BYTES)
    if b"<mediawiki" in head.replace(b"\0", b""):  # without the zeros of UTF-16
        return "mediawiki"
    if head.removeprefix(b"\xef\xbb\xbf").splitlines()[:1] == [b"id\ttext\ttitle"]:
        return "dpr"
    return None
