"""The files in zip archives, unpacked one by one, and compressed files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ragx.corpus.document import Skipped
from ragx.corpus.formats import format_of
from ragx.util.compressed import UNREADABLE, open_bytes

MAX_MEMBERS = 100_000
MAX_UNPACKED_BYTES = 1 << 30
"""Total of the files that are unpacked."""
_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 0x1
_UTF8 = 0x800
"""Flags of a member (APPNOTE.TXT 6.3.10, section 4.4.4)."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')


def decompress(path: Path, folder: Path) -> Iterator[tuple[str, Path] | Skipped]:
    """The file in a compressed one, in a new folder in `folder`, with its name.

    Raises:
        OSError, EOFError, zlib.error, lzma.LZMAError: it cannot be read.
    """
    target = folder / "0" / path.stem[-60:]
    target.parent.mkdir()
    left = MAX_UNPACKED_BYTES
    with open_bytes(path) as packed, target.open("wb") as file:
        while data := packed.read(_CHUNK_BYTES):
            left -= len(data)
            if left < 0:
                yield Skipped(str(path), f"unpacks to more than {MAX_UNPACKED_BYTES >> 20:,} MB")
                return
            file.write(data)
    modified = path.stat().st_mtime
    os.utime(target, (modified, modified))
    yield path.stem, target


def unpack(path: Path, folder: Path) -> Iterator[tuple[str, Path] | Skipped]:
    """Each file of a known format with its name in the archive, unpacked into a new folder in `folder`, sorted by name.

    Names decide neither where a file is written nor what is overwritten. Hidden files, links and empty folders are
    left out, archives in the archive are not opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _unpack(archive, path, folder)
    except zipfile.BadZipFile:
        yield Skipped(str(path), "is not a zip archive, or it is damaged", unreadable=True)


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path) -> Iterator[tuple[str, Path] | Skipped]:
    members = sorted(((_name(member), member) for member in archive.infolist()), key=lambda item: item[0])
    if len(members) > MAX_MEMBERS:
        yield Skipped(str(path), f"holds more than {MAX_MEMBERS:,} files: unpack it")
        return
    left = MAX_UNPACKED_BYTES
    seen: set[str] = set()
    for number, (name, member) in enumerate(members):
        if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16) or not name or _is_hidden(name):
            continue
        source = f"{path}/{name}"
        if name in seen:
            yield Skipped(source, "has the name of another file in the archive")
            continue
        seen.add(name)
        target = folder / str(number) / name.rpartition("/")[2][-60:]
        try:
            format = format_of(target)
        except OSError:  # the content tells the format
            pass
        else:
            if format is None:
                yield Skipped(source, "is of an unsupported format", unsupported=True)
                continue
            if format == "archive":
                yield Skipped(source, "is an archive in an archive: unpack it")
                continue
        left -= member.file_size
        if left < 0:
            yield Skipped(str(path), f"unpacks to more than {MAX_UNPACKED_BYTES >> 20:,} MB: read up to {name}")
            return
        try:
            if member.flag_bits & _ENCRYPTED:
                yield Skipped(source, "is encrypted: unpack the archive")
                continue
            target.parent.mkdir()
            with archive.open(member) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
            os.utime(target, times=(modified := _modified(member, path), modified))
        except (zipfile.BadZipFile, NotImplementedError, *UNREADABLE) as error:
            yield Skipped(source, f"cannot be unpacked: {error}")
            continue
        yield name, target


def _name(member: zipfile.ZipInfo) -> str:
    """The path of a member without what could lead out of the archive."""
    name = member.filename
    if not member.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):  # many programs write UTF-8 without saying so
            name = name.encode("cp437").decode()
    parts = (_UNSAFE.sub("_", part).strip() for part in name.replace("\\", "/").split("/"))
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _modified(member: zipfile.ZipInfo, path: Path) -> float:
    try:
        return datetime(*member.date_time, tzinfo=UTC).timestamp()
    except ValueError:
        return path.stat().st_mtime


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
