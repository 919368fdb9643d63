"""Atomic writes of files and folders, checksums, and a lock for a single writer."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ragx.errors import IndexFolderError, RagxError
from ragx.util.terminal import plain


@contextmanager
def writing(path: Path, error_type: type[RagxError] = IndexFolderError) -> Iterator[None]:
    """Turn an `OSError` (disk full, read-only folder, …) into an error that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or f"{error} (is the disk full?)"  # NumPy sets no errno
        name = str(error.filename or path)
        if os.sep not in name and name != str(path):  # shutil.rmtree names only the last part
            name = f"{path}/…/{name}"
        raise error_type(f"cannot write {name}: {reason}") from error


@contextmanager
def durable_file(path: Path, error_type: type[RagxError] = IndexFolderError) -> Iterator[BinaryIO]:
    """A writable file that is renamed to `path` once it is complete and on disk.

    Raises:
        error_type: it cannot be written.
    """
    draft = path.with_name(path.name + ".tmp")
    with writing(path, error_type):
        try:
            with draft.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def durable_folder(path: Path, error_type: type[RagxError] = IndexFolderError) -> Iterator[Path]:
    """A new folder for files that is renamed to `path`, replacing it, once all of them are complete and on disk.

    Raises:
        error_type: it cannot be written.
    """
    draft = path.with_name(path.name + ".tmp")
    with writing(path, error_type):
        shutil.rmtree(draft, ignore_errors=True)  # left by a process that was killed
        try:
            draft.mkdir(parents=True)
            yield draft
            for file in draft.iterdir():
                sync_file(file)
            sync_folder(draft)
            shutil.rmtree(path, ignore_errors=True)
            draft.rename(path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Flush a file that a library wrote to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of `folder` to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_regular(path: Path, size: int) -> bytes:
    """The first `size` bytes of a regular file, refusing pipes and devices, which could block.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(size)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writer_lock(folder: Path, error_type: type[RagxError] = IndexFolderError) -> Iterator[None]:
    """Lock a folder for one writer; create it if it is missing. Readers need no lock.

    The kernel releases the lock when its holder dies. The file names the last holder.

    Raises:
        error_type: another process is writing to the folder, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = folder / "LOCK"
    with writing(folder, error_type):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            holder = plain(path.read_text(encoding="utf-8", errors="replace").strip())
            detail = f" ({holder})" if holder else ""
            raise error_type(f"another process{detail} is writing to {folder}") from None
    try:
        with writing(path, error_type):
            path.write_text(_holder() + "\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder() -> str:
    program = [Path(sys.argv[0]).name, *sys.argv[1:]]
    command = " ".join(plain(shlex.join(program)).split())[:200]
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return f"pid {os.getpid()} on {socket.gethostname()} since {since}: {command}"
