"""Observe the steps of a writer in a folder.

A step is a write, an fsync, or opening for writing, renaming, linking, creating or deleting a file or folder.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.torture.index import copy

Step = Callable[[str, object], None]
"""Called with the kind of a step and its path."""


class WatchedFile:
    """A file whose writes are steps in any library; NumPy writes directly only to its own kinds of file."""

    def __init__(self, file: Any, path: object, step: Step) -> None:
        self._file, self._path, self._step = file, path, step

    def write(self, data: Any) -> Any:
        self._step("write", self._path)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


hooks: list[Step] = []


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not hooks:
        return
    if event == "open":
        _, mode, flags = arguments
        if not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not set(mode or "") & set("wax+"):
            return
    elif event not in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir"):
        return
    hooks[0](event, arguments[0])


sys.addaudithook(audit)  # cannot be removed


@contextmanager
def watched(folder: Path, step: Step) -> Iterator[None]:
    """Call `step` before each step in a folder."""

    def ours(kind: str, path: object) -> None:
        # shutil.rmtree gives names relative to an open folder
        if str(path).startswith(str(folder)) or (kind in ("os.remove", "os.rmdir") and "/" not in str(path)):
            step(kind, path)

    opened, synced = builtins.open, os.fsync

    def open_watched(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        raw = opened(file, mode, *arguments, **named)
        return WatchedFile(raw, file, ours) if set(mode) & set("wax+") and isinstance(file, str | Path) else raw

    def sync(descriptor: int) -> None:
        ours("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        synced(descriptor)

    builtins.open = io.open = open_watched  # type: ignore[assignment]
    os.fsync = sync  # type: ignore[assignment]
    hooks.append(ours)
    try:
        yield
    finally:
        hooks.clear()
        builtins.open = io.open = opened
        os.fsync = synced


def count_steps(start: Path, folder: Path, action: Callable[[Path], object]) -> int:
    seen: list[str] = []
    copy(start, folder)
    with watched(folder, lambda kind, path: seen.append(kind)):
        action(folder)
    return len(seen)
