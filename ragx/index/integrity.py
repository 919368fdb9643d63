"""Compare the files of a generation with its manifest."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from ragx.index.manifest import FileEntry, Manifest
from ragx.util.files import sha256

_TRUSTED = {".fast", ".store"}
"""Suffixes of tantivy's small files, a few bytes a passage."""


def problems(generation: Path, manifest: Manifest, *, read: bool = True) -> Iterator[tuple[str, str]]:
    """Names and problems of files that differ from the manifest.

    Without `read`, contents are compared only of files that tantivy trusts when it opens them: it reads sizes in them,
    and a failed allocation would end the process.
    """
    for name, entry in manifest.files.items():
        path = generation / name
        problem = _size_problem(path, entry)
        if not problem and (read or path.suffix in _TRUSTED) and _sha256(path) != entry.sha256:
            problem = f"{path} is damaged: its SHA-256 differs from the manifest"
        if problem:
            yield name, problem


def _sha256(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:  # for example, a bad block
        return None


def _size_problem(path: Path, entry: FileEntry) -> str | None:
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
        return f"{path} is damaged: it is not a regular file"
    size = status.st_size
    return None if size == entry.size else f"{path} is damaged: {size:,} bytes instead of {entry.size:,}"
