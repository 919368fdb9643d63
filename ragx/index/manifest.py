"""`manifest.json`: the settings, counts and files of a generation."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import NonNegativeInt, PositiveInt, ValidationError, field_validator

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.util.files import durable_file, read_regular
from ragx.util.settings import Settings

if TYPE_CHECKING:
    from ragx.types import Embedder

FORMAT = 6
"""Version of the on-disk format."""
STAGING = "gen-building"
"""Folder of the generation being built."""
DELETED = "deleted.npy"
"""File with a generation's deleted rows, if there are any."""
LEXICAL = "lexical"
"""Folder of the shards of a generation's lexical index."""
SOURCES = "sources.jsonl"
"""File with a record of every source file; only updates need it."""
ORIGIN = "ORIGIN"
"""File of an index's folder that is a read-only copy: where it comes from."""

CURRENT_ADVICE = "run `ragx index repair`, which restores the newest intact generation"
_NAME_BYTES = 64
_MANIFEST_BYTES = 256 << 20

T = TypeVar("T")


class FileEntry(Settings):
    """One file of a generation."""

    size: NonNegativeInt
    """Bytes."""
    sha256: str


class EmbedderEntry(Settings):
    """The embedder that made the vectors."""

    name: str
    fingerprint: str
    dimension: PositiveInt

    @classmethod
    def of(cls, embedder: Embedder) -> EmbedderEntry:
        """The entry of an embedder."""
        return cls(name=embedder.name, fingerprint=embedder.fingerprint, dimension=embedder.dimension)


class ShardEntry(Settings):
    """One shard: the number of its passages, including deleted ones, and the digest of all their fields."""

    passages: NonNegativeInt
    digest: str


class Counts(Settings):
    """Numbers of items indexed and left out."""

    documents: int = 0
    passages: int = 0
    shards: int = 0
    duplicates: int = 0
    empty: int = 0
    skipped: int = 0


class Manifest(Settings):
    """The contents of `manifest.json`."""

    format: int = FORMAT
    created: str
    """UTC, ISO 8601."""
    settings: IndexSettings
    embedder: EmbedderEntry
    counts: Counts
    shards: list[ShardEntry]
    files: dict[str, FileEntry]
    """By path relative to the generation's folder, with `/`."""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        """Refuse names that lead out of the folder: an index may come from anyone."""
        for name in files:
            if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", name):
                raise ValueError(f"{name!r} is not a valid file name in an index")
        return files

    def fingerprint(self) -> str:
        """SHA-256 (hex) of what it says of passages, vectors and settings.

        The lexical index follows from these, and its files have other names and bytes in every build.
        """
        content = self.model_dump(mode="json", exclude={"created": True, "files": set(lexical_files(self))})
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `folder/manifest.json` durably.

    Raises:
        IndexFolderError: it cannot be written.
    """
    values = manifest.model_dump(mode="json")
    text = json.dumps(values | {"checksum": _checksum(values)}, ensure_ascii=False, indent=1)
    with durable_file(folder / "manifest.json") as file:
        file.write(text.encode("utf-8") + b"\n")


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest in a generation's folder.

    Raises:
        IndexFolderError: it is missing, damaged or of another format version.
    """
    path = folder / "manifest.json"
    try:
        values = json.loads(read_regular(path, _MANIFEST_BYTES))
        version = values["format"]
        if version != FORMAT:
            raise IndexFolderError(f"{path} has format version {version}; this ragx reads {FORMAT}: rebuild the index")
        if values.pop("checksum") != _checksum(values):
            raise ValueError("its checksum does not match")
        return Manifest.model_validate(values)
    except OSError as error:
        raise IndexFolderError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError):
        raise IndexFolderError(f"{path} is damaged: rebuild the index") from None


def lexical_files(manifest: Manifest) -> list[str]:
    """The files of the lexical index."""
    return [name for name in manifest.files if name.startswith(f"{LEXICAL}/")]


def current_generation(folder: Path) -> Path:
    """The folder of the generation that `CURRENT` names.

    Raises:
        IndexFolderError: there is no finished index in `folder`, or `CURRENT` is damaged.
    """
    name = ""
    while name != (name := _current_name(folder)):  # retry: two writers may have published since it was read
        if (folder / name).is_dir() or not generations(folder):
            return folder / name
    raise IndexFolderError(f"{folder / 'CURRENT'} is damaged: {name} does not exist; {CURRENT_ADVICE}")


def _current_name(folder: Path) -> str:
    current = folder / "CURRENT"
    try:
        name = read_regular(current, _NAME_BYTES).decode("ascii", "replace").removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        advice = "`ragx index list` lists indexes, `ragx index build PATH` builds one"
        if (folder / STAGING).is_dir():
            advice = "its build did not finish: run it again to continue"
        raise IndexFolderError(f"no index at {folder} ({advice})") from None
    except OSError as error:
        raise IndexFolderError(f"cannot read {current}: {error.strerror}") from None
    if not re.fullmatch(r"gen-\d{4,}", name, re.ASCII):
        raise IndexFolderError(f"{current} is damaged: it does not name a generation; {CURRENT_ADVICE}")
    return name


def generations(folder: Path) -> list[Path]:
    """The folders of the finished generations, oldest first."""
    folders = [path for path in folder.glob("gen-*") if re.fullmatch(r"gen-\d{4,}", path.name)]
    return sorted(folders, key=generation_number)


def generation_number(generation: Path) -> int:
    """The number of a generation, from 1."""
    return int(generation.name.removeprefix("gen-"))


def shard_folder(generation: Path, number: int) -> Path:
    """The folder of a shard in a generation."""
    return generation / f"shard-{number:05d}"


def is_index_folder(folder: Path) -> bool:
    """Whether the folder contains an index or an unfinished build."""
    return (folder / STAGING).is_dir() or any((path / "manifest.json").is_file() for path in generations(folder))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index's current generation, without opening other files.

    Raises:
        IndexFolderError: there is no index in `folder`, or the manifest is damaged or of another format version.
    """
    return read_current(folder, load_manifest)


def read_current(folder: Path, read: Callable[[Path], T]) -> T:
    """Call `read` with the folder of the current generation and return its result.

    If two writers publish meanwhile, which deletes that generation, `read` is called again with the new one.

    Raises:
        IndexFolderError: there is no index in `folder`; or as `read`.
    """
    while True:
        current = current_generation(folder)
        try:
            return read(current)
        except IndexFolderError:
            if current_generation(folder) == current:
                raise


def _checksum(values: dict[str, object]) -> str:
    canonical = json.dumps(values, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
