"""The models and readers of a table, and what all tables show of each: its figures, tokens a second and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, get_args

from ragx.config import EncodingOptions
from ragx.engine.attention_sinks import AttentionSinks
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.paper.measuring import measured
from ragx.evaluation.paper.options import ContestOptions, numbers
from ragx.evaluation.results import Results, Values
from ragx.evaluation.tables import Cell
from ragx.extensible.embedder import choose_ratio, embedder_of
from ragx.types import ReaderName
from ragx.util.settings import checked
from ragx.util.terminal import notice

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.engine.backend import ReaderModel
    from ragx.util.tokenization import Tokenizer


class Keyed(Protocol):
    """A row of a table, or an example."""

    @property
    def key(self) -> str:
        """Its name in the raw results: all that its values depend on."""


RowT = TypeVar("RowT", bound=Keyed)
ExampleT = TypeVar("ExampleT", bound=Keyed)
SPEED = {"tokens a second": 0, "peak GB": 0}
"""The last columns of every table."""


@dataclass(frozen=True)
class Contestant:
    """A model with all readers that it can have."""

    name: str
    """As the user gave it."""
    model: CepeModel
    tokenizer: Tokenizer
    digest: str
    """Of the weights and their number format; empty if results are not kept."""


@dataclass(frozen=True)
class Contest:
    """Which models and readers are compared, and on what."""

    models: Sequence[str]
    """Names, folders or Hub ids; `NAME@yarn:FACTOR` and `NAME@linear:FACTOR` stretch the decoder's positions."""
    readers: Sequence[ReaderName]
    options: ContestOptions
    results: Results

    def each(self, work: Callable[[Contestant], None]) -> None:
        """Call `work` with each model, on the torch backend; one is freed before the next is loaded.

        Raises:
            ModelError, ConfigError: as `ragx.cepe.load`.
        """
        for name in self.models:
            work(self._open(name))

    def _open(self, name: str) -> Contestant:
        from ragx.engine.open import open_model

        folder, _, scaling = name.partition("@")
        values = {setting: getattr(self.options, setting) for setting in ("device", "dtype", "bits", "sharpen_beyond")}
        values |= {"model": folder, "backend": "torch", "rope_scaling": scaling or None}
        model, tokenizer = open_model(checked(EncodingOptions, values))
        digest = "" if self.options.out is None else model.weights_digest()
        if self.options.sharpen_beyond is not None:
            digest += f" sharpened beyond {self.options.sharpen_beyond}"
        return Contestant(name, model, tokenizer, digest)  # type: ignore[arg-type]  # the torch backend's

    def measure(
        self,
        contestant: Contestant,
        rows: Sequence[RowT],
        examples: Iterable[ExampleT],
        work: Callable[[RowT, ExampleT], Values],
    ) -> Iterator[tuple[ExampleT, list[Values]]]:
        """Each example with its values in every row: from the raw results, or else from `work` with time and memory."""
        for example in examples:
            yield (
                example,
                [
                    self.results.measure(
                        f"{contestant.name} {contestant.digest} {row.key}",
                        example.key,
                        partial(measured, partial(work, row, example)),
                    )
                    for row in rows
                ],
            )

    def readers_of(self, contestant: Contestant) -> list[ReaderName]:
        """The readers that the model can have."""
        trained = {"cepe": contestant.model.is_trained, "extensible": contestant.model.extensible is not None}
        for name in self.readers:
            if not trained.get(name, True):
                notice(f"{contestant.name} has no trained {name} reader: its rows of {name} are left out")
        return [name for name in self.readers if trained.get(name, True)]

    def ratios_of(self, contestant: Contestant, reader: ReaderName) -> Sequence[int | None]:
        """Tokens for each embedding of `extensible`, a row each; None for the other readers.

        Raises:
            ConfigError: one does not divide a chunk.
        """
        if reader != "extensible":
            return [None]
        if self.options.ratio is None:
            return embedder_of(contestant.model).settings.ratios
        return [choose_ratio(contestant.model, ratio) for ratio in numbers("ratio", self.options.ratio)]


def data_name(path: Path) -> str:
    """The name of a data set: its file's without endings, as in `books` for `books.jsonl.xz`."""
    return path.name.split(".")[0] or path.name


def nonempty(examples: Iterator[ExampleT], missing: str) -> Iterator[ExampleT]:
    """The examples, read lazily.

    Raises:
        CorpusError: there are none; with `missing` as its message.
    """
    if (first := next(examples, None)) is None:
        raise CorpusError(missing)
    return chain([first], examples)


def parse_readers(text: str) -> list[ReaderName]:
    """Readers from a list such as `cepe,full`.

    Raises:
        ConfigError: one is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in get_args(ReaderName)]:
        raise ConfigError(f"--reader must be of {', '.join(get_args(ReaderName))}, got {unknown[0]!r}")
    return list(dict.fromkeys(names))  # type: ignore[arg-type]  # checked


def row_name(reader: ReaderName, ratio: int | None) -> str:
    """A reader in a table, with its ratio."""
    return reader if ratio is None else f"{reader}, ratio {ratio}"


def places(tokens: int, ratio: int | None) -> int:
    """The places of the decoder's window that tokens take as embeddings; None: none, they are in the encoder."""
    return 0 if ratio is None else -(-tokens // ratio)


def sinks_of(model: ReaderModel, sinks: int, recent: int | None, stride: int | None) -> AttentionSinks:
    """StreamingLLM's cache; None: the paper's 2,044 recent tokens and stride of 2,048, less for a smaller window."""
    half = model.window // 2
    return AttentionSinks(
        sinks, min(2044, half - sinks) if recent is None else recent, min(2048, half) if stride is None else stride
    )


def speed_cells(values: Sequence[Values]) -> list[Cell]:
    """Tokens a second over all examples, and the highest peak of memory."""
    seconds = sum(value["seconds"] for value in values)
    tokens = sum(value["read_tokens"] for value in values)
    peak = max(value["peak_bytes"] for value in values)
    return [f"{tokens / seconds:,.0f}" if seconds else None, f"{peak / 1e9:.2f}" if peak else None]
