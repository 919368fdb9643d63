"""The files of a folder, in a fixed order."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ragx.corpus.document import Skipped


def walk(root: Path, include: Sequence[str], exclude: Sequence[str]) -> Iterator[tuple[Path, str] | Skipped]:
    """Every regular file under `root` with its path relative to it ("/" between parts), sorted by name in each folder.

    Hidden files and folders are left out, and so are indexes of ragx, files and whole folders that a glob of `exclude`
    matches, and, if `include` is not empty, files that none of its globs match. `*` in a glob also matches "/", and
    `**/` also matches nothing.

    Links to files are followed, and links to folders unless the folder lies inside `root` or was already read.
    """
    real_root = Path(os.path.realpath(root))
    linked: set[Path] = set()
    stack = [_entries(root, "")]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        if isinstance(entry, Skipped):
            yield entry
            continue
        path, relative = entry
        if path.name.startswith(".") or _matches(relative, exclude):
            continue
        try:
            mode = path.stat().st_mode
            is_index = stat.S_ISDIR(mode) and _is_index(path)
        except OSError as error:
            yield Skipped(str(path), f"cannot be read: {error.strerror}", unreadable=True)
            continue
        if stat.S_ISDIR(mode):
            if path.is_symlink():
                target = Path(os.path.realpath(path))
                if target.is_relative_to(real_root) or any(target.is_relative_to(seen) for seen in linked):
                    continue
                linked.add(target)
            if is_index:
                continue
            stack.append(_entries(path, relative + "/"))
        elif include and not _matches(relative, include):
            continue
        elif stat.S_ISREG(mode):
            yield path, relative
        else:
            yield Skipped(str(path), "is not a regular file")


def _entries(folder: Path, prefix: str) -> Iterator[tuple[Path, str] | Skipped]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        yield Skipped(str(folder), f"cannot be read: {error.strerror}", unreadable=True)
        return
    for path in paths:
        yield path, prefix + path.name


def _is_index(folder: Path) -> bool:
    """Whether the folder holds an index, finished or not."""
    if (folder / "LOCK").is_file() and (folder / "gen-building").is_dir():
        return True
    return any(re.fullmatch(r"gen-\d{4,}", path.parent.name) for path in folder.glob("gen-*/manifest.json"))


def _matches(relative: str, globs: Sequence[str]) -> bool:
    return any(
        fnmatchcase(relative, pattern) for glob in globs for pattern in {glob.rstrip("/"), glob.replace("**/", "")}
    )
