"""Compound (OLE) files made of the streams that a test gives."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import pairwise

SECTOR = 512
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_SMALL = 4096
"""Shorter streams are kept in another place; here they are filled up with zeros."""


def ole_file(streams: Mapping[str, bytes]) -> bytes:
    """A file of streams, by their names or by "storage/name"."""
    storages = sorted({name.partition("/")[0] for name in streams if "/" in name})
    names = [*storages, *streams]
    chains = [data.ljust(_SMALL, b"\0") for data in streams.values()]
    chains = [data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0") for data in chains]
    directory_sectors = -(-(len(names) + 1) * 128 // SECTOR)
    total = directory_sectors + sum(len(data) // SECTOR for data in chains)
    fat_sectors = -(-(total + 8) * 4 // SECTOR)
    fat = [_FAT] * fat_sectors
    starts = []
    for size in (directory_sectors, *(len(data) // SECTOR for data in chains)):
        starts.append(len(fat))
        fat += [*range(len(fat) + 1, len(fat) + size), _END]
    fat += [_FREE] * (fat_sectors * SECTOR // 4 - len(fat))
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6, 0, fat_sectors, starts[0], 0, _SMALL),
        *(_END, 0, _END, 0),
    )
    header += struct.pack("<109I", *range(fat_sectors), *[_FREE] * (109 - fat_sectors))
    directory = _directory(storages, list(streams), starts[1:], [max(len(data), _SMALL) for data in streams.values()])
    return (
        header
        + struct.pack(f"<{len(fat)}I", *fat)
        + directory.ljust(directory_sectors * SECTOR, b"\0")
        + b"".join(chains)
    )


def _directory(storages: list[str], streams: list[str], starts: list[int], sizes: list[int]) -> bytes:
    """Entries whose siblings hang on one another in one row."""
    ids = {name: number for number, name in enumerate([*storages, *streams], 1)}
    children: dict[str, list[str]] = {"": storages + [name for name in streams if "/" not in name]}
    for name in streams:
        if "/" in name:
            children.setdefault(name.partition("/")[0], []).append(name)
    following = {name: ids[after] for row in children.values() for name, after in pairwise(row)}

    def entry(name: str, kind: int, start: int = 0, size: int = 0) -> bytes:
        label = (name.rpartition("/")[2] or "Root Entry").encode("utf-16-le") + b"\0\0"
        row = children.get(name, []) if kind != 2 else []
        right, child = following.get(name, _FREE), ids[row[0]] if row else _FREE
        fields = struct.pack("<HBBIII", len(label), kind, 1, _FREE, right, child)
        return label.ljust(64, b"\0") + fields + bytes(36) + struct.pack("<IQ", start, size)

    found = [entry("", 5, _END), *(entry(name, 1) for name in storages)]
    found += [entry(name, 2, start, size) for name, start, size in zip(streams, starts, sizes, strict=True)]
    return b"".join(found)
