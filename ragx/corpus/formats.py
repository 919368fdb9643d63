"""The format of a file, by its name or, where that is not enough, by its first bytes. Opens compressed files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, cast

from ragx.corpus.fields import id_field, text_field

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Format = Literal[
    "text",
    "markdown",
    "rst",
    "org",
    "latex",
    "subtitles",
    "json",
    "yaml",
    "code",
    "notebook",
    "table",
    "html",
    "pdf",
    "docx",
    "jsonl",
    "csv",
    "parquet",
    "dpr",
    "mediawiki",
]

SUFFIXES: dict[Format, str] = {
    "text": ".txt .text .log",
    "markdown": ".md .markdown .mdx",
    "rst": ".rst",
    "org": ".org",
    "latex": ".tex",
    "subtitles": ".srt .vtt",
    "json": ".json",
    "yaml": ".yaml .yml",
    "code": (
        ".py .pyi .js .mjs .cjs .jsx .ts .tsx .go .java .c .h .cc .cpp .cxx .hh .hpp .rs .rb .sh .bash .cs .php "
        ".pl .lua .r .jl .kt .swift .scala .sql"
    ),
    "notebook": ".ipynb",
    "table": ".csv .tsv",
    "html": ".html .htm",
    "pdf": ".pdf",
    "docx": ".docx",
    "jsonl": ".jsonl .ndjson",
    "parquet": ".parquet",
}
"""Suffixes of each format; files of the others are recognised by their first bytes (`BY_CONTENT`)."""
_BY_SUFFIX = {suffix: format for format, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
EXTRACTED = frozenset[Format](
    (
        *("markdown", "rst", "org", "latex", "subtitles", "json", "yaml", "code", "notebook", "table"),
        *("html", "pdf", "docx"),
    )
)
"""Formats whose files are parsed in a child process, by the module of `extract` that has their name."""
_COMPRESSED = (".gz", ".bz2", ".xz")
_TABLES = (".csv", ".tsv")
BY_CONTENT: dict[Format, str] = {
    "csv": ".csv .tsv with columns of ids and texts, also .gz .bz2 .xz",
    "dpr": '.tsv with the header "id, text, title"',
    "mediawiki": ".xml dumps of MediaWiki, also .gz .bz2 .xz",
}
_BY_CONTENT = {*_TABLES, ".xml", *_COMPRESSED}
_HEAD_BYTES = 4096
_CHUNK_BYTES = 1 << 17

MAX_RATIO = 200
"""Limit on the ratio of unpacked to packed size; text rarely reaches 20."""
SMALL_BYTES = 1 << 30
"""A file may always unpack to this size."""
MAX_DICTIONARY_BYTES = 256 << 20
"""Memory for unpacking an .xz file; `xz -9` needs a quarter of it."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Exceptions from reading a missing, forbidden or damaged file, compressed or not."""


def unpacked_limit(packed: int) -> int:
    """Bytes of text that a file of `packed` bytes may unpack to."""
    return max(SMALL_BYTES, MAX_RATIO * packed)


def bomb(packed: int) -> str:
    """The reason for skipping a file that exceeds the limit."""
    return f"unpacks to over {unpacked_limit(packed) >> 20:,} MB and {MAX_RATIO} times its size: it may be a bomb"


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed when its name ends in .gz, .bz2 or .xz.

    Reading one that unpacks to more than `MAX_RATIO` times its size raises an OSError.
    """
    suffix = path.suffix.lower()
    file = path.open("rb")
    if suffix not in _COMPRESSED:
        return file
    packed = path.stat().st_size
    unpacked: io.BufferedIOBase
    if suffix == ".gz":
        unpacked = gzip.GzipFile(fileobj=file)
    elif suffix == ".bz2":
        unpacked = bz2.BZ2File(file)
    else:
        unpacked = io.BufferedReader(_XzFile(file))
    return io.BufferedReader(cast("io.RawIOBase", _Limited(unpacked, packed, file)), _CHUNK_BYTES)


class _Limited(io.RawIOBase):
    """The unpacked bytes of a compressed file of `packed` bytes, up to a limit."""

    def __init__(self, unpacked: io.BufferedIOBase, packed: int, file: BinaryIO) -> None:
        self._unpacked, self._file = unpacked, file
        self._left, self._packed = unpacked_limit(packed), packed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._unpacked.readinto1(buffer)
        self._left -= count
        if self._left < 0:
            raise OSError(bomb(self._packed))
        return count

    def close(self) -> None:
        self._unpacked.close()
        self._file.close()
        super().close()


class _XzFile(io.RawIOBase):
    """An .xz file with a limit on its dictionary, which the standard library's reader does not have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while view.nbytes:
            packed = b""
            if self._stream.eof:  # another stream may follow, after zeros
                packed = (self._stream.unused_data or self._file.read(_CHUNK_BYTES)).lstrip(b"\0")
                if not packed and not (packed := self._file.read(_CHUNK_BYTES).lstrip(b"\0")):
                    return 0
                self._stream = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES)
            elif self._stream.needs_input and not (packed := self._file.read(_CHUNK_BYTES)):
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            if data := self._stream.decompress(packed, view.nbytes):
                view[: len(data)] = data
                return len(data)
        return 0


def format_of(path: Path, *, look_inside: bool = False) -> Format | None:
    """The format of a file; None if unknown. `look_inside` opens the file whatever its name.

    Raises:
        OSError, EOFError, zlib.error, lzma.LZMAError: the file had to be opened and cannot be read.
    """
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower() if suffix in _COMPRESSED else suffix
    if suffix in _BY_SUFFIX and suffix not in _TABLES:
        return _BY_SUFFIX[suffix]
    if _BY_SUFFIX.get(inner) == "jsonl":
        return "jsonl"
    if not look_inside and suffix not in _BY_CONTENT:
        return None
    with open_bytes(path) as file:
        head = file.read(_HEAD_BYTES)
    if b"<mediawiki" in head.replace(b"\0", b""):  # without the zeros of UTF-16
        return "mediawiki"
    first, *_ = head.removeprefix(b"\xef\xbb\xbf").splitlines() or [b""]
    if first == b"id\ttext\ttitle":
        return "dpr"
    if inner in _TABLES and _names_rows(first):
        return "csv"
    return _BY_SUFFIX.get(suffix)


def _names_rows(header: bytes) -> bool:
    """Whether the first line of a table names a column of ids and one of texts."""
    names = row_delimiter(header.decode(errors="replace"))[1]
    return id_field(names) is not None and text_field(names) is not None


def row_delimiter(header: str) -> tuple[str, list[str]]:
    """The delimiter of a table by its first line, and the names of its columns."""
    delimiter = max("\t,;", key=header.count)
    return delimiter, [name.strip().strip('"') for name in header.split(delimiter)]
