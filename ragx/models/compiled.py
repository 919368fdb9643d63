"""Models compiled for ONNX Runtime, kept on disk until the model they come from changes.

cache_home()/compiled/<model's folder>-<hash>/   see cache.py for the record of its files
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from ragx.errors import ModelError
from ragx.models import cache
from ragx.util.folders import cache_home
from ragx.util.terminal import notice


def find_compiled(folder: Path, state: str) -> Path | None:
    """The compiled model of the model in `folder`, unless it is of another `state`, damaged or missing."""
    target = _target(folder)
    record = cache.read_record(target)
    if record is None or record.source != _source(folder, state) or cache.damage(target, deep=True) is not None:
        return None
    return target


def store_compiled(folder: Path, name: str, state: str, compile: Callable[[Path], object]) -> Path:
    """Compile the model in `folder` and keep the result.

    Args:
        folder: the model.
        name: what users call it.
        state: changes if the model's files or the graphs' version do.
        compile: writes the compiled model into an empty folder.

    Raises:
        ModelError: from `compile`, or the disk is full or not writable.
    """
    _remove_orphans()
    source = _source(folder, state)

    def fill(draft: Path) -> tuple[str, str | None]:
        notice(f"compiling {name} for this CPU, once")
        compile(draft)
        return source, "compiled"

    return cache.publish(_target(folder), name, fill, source)


def find_or_compile(
    folder: Path, name: str, state: str, prepare: Callable[[], Callable[[Path], object] | None]
) -> Path | None:
    """The compiled model of the model in `folder`; compiles it if needed. None: it runs uncompiled.

    Args:
        folder: the model.
        name: what users call it.
        state: as of `store_compiled`.
        prepare: loads the model and returns `compile` of `store_compiled`, or None if the model cannot be compiled.

    Raises:
        ModelError: from `prepare`. One from compiling is a notice.
    """
    found = find_compiled(folder, state)
    if found is not None:
        return found
    compile = prepare()
    if compile is None:
        return None
    try:
        return store_compiled(folder, name, state, compile)
    except ModelError as error:
        notice(f"{name} runs uncompiled: {error}")
        return None


def _target(folder: Path) -> Path:
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return cache_home() / "compiled" / f"{folder.name}-{place}"


def _source(folder: Path, state: str) -> str:
    return f"{hashlib.sha256(state.encode()).hexdigest()} {folder.resolve()}"


def _remove_orphans() -> None:
    """Remove compiled models whose model is gone."""
    for path in (cache_home() / "compiled").glob("*"):
        record = cache.read_record(path)
        if record is not None and not Path(record.source.partition(" ")[2]).exists():
            shutil.rmtree(path, ignore_errors=True)
