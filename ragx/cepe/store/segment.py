"""The bytes of a segment file: records one after another, each at a multiple of 64 bytes.

    0   magic "RGX1"
    4   CRC-32 of the record from byte 8 to the end of its payload
    8   bytes of payload
    16  key
    48  zeros
    64  payload

Numbers are little-endian. A record says its own key and length, so that an index can be made again from segments.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

KEY_BYTES = 32
MAGIC = b"RGX1"
HEADER = struct.Struct(f"<4sIQ{KEY_BYTES}s16x")
ALIGNMENT = HEADER.size
CHECKED_FROM = 8


def path(folder: Path, number: int) -> Path:
    """Where segment `number` lies."""
    return folder / f"{number:016x}.segment"


def numbers(folder: Path) -> set[int]:
    """The segments in `folder`."""
    return {int(file.stem, 16) for file in folder.glob("[0-9a-f]" * 16 + ".segment")}


def aligned(size: int) -> int:
    """`size` rounded up to where a next record may start."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def record_bytes(payload_bytes: int) -> int:
    """Bytes that a record takes in a segment."""
    return aligned(HEADER.size + payload_bytes)


def header(key: bytes, payload: Sequence[memoryview]) -> bytes:
    """The 64 bytes before `payload`, which may come in several parts."""
    size = sum(part.nbytes for part in payload)
    checksum = zlib.crc32(HEADER.pack(MAGIC, 0, size, key)[CHECKED_FROM:])
    for part in payload:
        checksum = zlib.crc32(part, checksum)
    return HEADER.pack(MAGIC, checksum, size, key)


def payload(mapped: mmap.mmap, key: bytes, offset: int) -> memoryview | None:
    """The payload of the record at `offset`, not copied; None unless it is there, whole and of this key."""
    if not 0 <= offset <= len(mapped) - HEADER.size:
        return None
    magic, checksum, size, found = HEADER.unpack_from(mapped, offset)
    end = offset + HEADER.size + size
    if magic != MAGIC or found != key or end > len(mapped):
        return None
    view = memoryview(mapped)
    return view[offset + HEADER.size : end] if zlib.crc32(view[offset + CHECKED_FROM : end]) == checksum else None


def records(file_path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Key, offset and size of each record up to the first damaged header; checksums are left to whoever reads."""
    with file_path.open("rb") as file:
        end = file_path.stat().st_size
        offset = 0
        while offset + HEADER.size <= end:
            file.seek(offset)
            magic, _, length, key = HEADER.unpack(file.read(HEADER.size))
            size = record_bytes(length)
            if magic != MAGIC or offset + HEADER.size + length > end:
                return
            yield key, offset, size
            offset += size


def append(file_path: Path, offset: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write `parts` one after another at `offset`.

    Raises:
        OSError: the disk is full or the file cannot be written.
    """
    with file_path.open("r+b") as file:
        file.seek(offset)
        for part in parts:
            file.write(part)


def read(file_path: Path, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`, fewer where the file ends."""
    with file_path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
