"""Compressed files, recognised by name; reading stops if one unpacks to far more than text would."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_CHUNK_BYTES = 1 << 17

MAX_RATIO = 200
"""Limit on the ratio of unpacked to packed size; text rarely reaches 20."""
SMALL_BYTES = 1 << 30
"""A file may always unpack to this size."""
MAX_DICTIONARY_BYTES = 256 << 20
"""Memory for unpacking an .xz file; `xz -9` needs a quarter of it."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Exceptions from reading a missing, forbidden or damaged file, compressed or not."""


def unpacked_limit(packed: int, small_bytes: int = SMALL_BYTES) -> int:
    """Bytes of text that a file of `packed` bytes may unpack to."""
    return max(small_bytes, MAX_RATIO * packed)


def bomb(limit: int) -> str:
    """The reason for skipping a file that unpacks to more than `limit` bytes, its `unpacked_limit`."""
    return f"unpacks to over {limit >> 20:,} MB and {MAX_RATIO} times its size: it may be a bomb"


def open_bytes(path: Path, small_bytes: int = SMALL_BYTES) -> IO[bytes]:
    """Open a file for reading, decompressed when its name ends in one of `COMPRESSED`.

    Reading one that unpacks to more than `MAX_RATIO` times its size, and `small_bytes`, raises an OSError.
    """
    suffix = path.suffix.lower()
    file = path.open("rb")
    if suffix not in COMPRESSED:
        return file
    limit = unpacked_limit(path.stat().st_size, small_bytes)
    unpacked: io.BufferedIOBase
    if suffix == ".gz":
        unpacked = gzip.GzipFile(fileobj=file)
    elif suffix == ".bz2":
        unpacked = bz2.BZ2File(file)
    elif suffix == ".xz":
        unpacked = io.BufferedReader(_XzFile(file))
    else:
        import pyarrow

        # by default zstd refuses frames that need more than 128 MB of memory
        unpacked = io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
    return io.BufferedReader(cast("io.RawIOBase", _Limited(unpacked, limit, file)), _CHUNK_BYTES)


class _Limited(io.RawIOBase):
    """The unpacked bytes of a compressed file, up to a limit."""

    def __init__(self, unpacked: io.BufferedIOBase, limit: int, file: BinaryIO) -> None:
        self._unpacked, self._file = unpacked, file
        self._left = self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._unpacked.readinto1(buffer)
        self._left -= count
        if self._left < 0:
            raise OSError(bomb(self._limit))
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
