"""The steps that a writer takes in a folder, each announced before it is taken.

A step is a write, an fsync, or the opening for writing, renaming, linking, creating or deleting of a file or folder.
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
"""Told the kind of a step and its path."""


class WatchedFile:
    """A file whose writes are steps, whichever library does them: it is none of those that NumPy writes to itself."""

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


sys.addaudithook(audit)  # there is no way to remove one


@contextmanager
def watched(folder: Path, step: Step) -> Iterator[None]:
    """Call `step` with its kind and path before each step that is taken in a folder."""

    def ours(kind: str, path: object) -> None:
        # shutil.rmtree names files relative to a folder that it holds open
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
