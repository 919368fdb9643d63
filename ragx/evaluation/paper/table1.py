"""Table 1: perplexity of long documents' windows, by reader and tokens of context (paper sections 3.2 and 3.3)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.engine.mixture import softmax_log_weights
from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate, perplexity
from ragx.evaluation.documents import chunks, read_tokens
from ragx.evaluation.paper.contest import (
    SPEED,
    Contest,
    Contestant,
    data_name,
    nonempty,
    places,
    row_name,
    sinks_of,
    speed_cells,
)
from ragx.evaluation.paper.likelihood import by_decoder, by_replug, by_streaming, replug_scores
from ragx.evaluation.paper.options import Table1Options, numbers
from ragx.evaluation.results import Values
from ragx.evaluation.tables import Cell, Table
from ragx.extensible.embedder import divided
from ragx.types import ReaderName
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.engine.attention_sinks import AttentionSinks
    from ragx.types import Embedder
    from ragx.util.tokenization import Tokenizer

CHUNK = 256
"""Tokens of a passage in the encoder, and of REPLUG's."""
QUERY = 256
"""First tokens of REPLUG's text, with which its passages are weighed."""


@dataclass(frozen=True)
class Window:
    """The last tokens of a part of a document."""

    source: str
    """Name of the data set."""
    document: str
    """Digest of its text."""
    end: int
    ids: list[int]
    """As many as the longest row reads."""

    @property
    def key(self) -> str:
        """Where the scored tokens end."""
        return f"{self.source} {self.document}:{self.end}"


@dataclass(frozen=True)
class Row:
    """A reader with so many tokens of context."""

    reader: ReaderName
    tokens: int
    in_decoder: int
    """Tokens that the decoder reads at a time."""
    settings: str
    """What else its values depend on."""
    sinks: AttentionSinks | None = None
    """The cache of `streaming`."""
    ratio: int | None = None
    """Tokens for each embedding of `extensible`."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        return row_name(self.reader, self.ratio)

    @property
    def key(self) -> str:
        """Its name in the raw results."""
        return f"{self.name} {self.tokens} {self.in_decoder} {self.settings} {self.sinks}"


def windows_of(source: Path, tokenizer: Tokenizer, options: Table1Options, limit: int | None) -> Iterator[Window]:
    """Windows of documents that are long enough for every row, so that all rows score the same tokens.

    Raises:
        CorpusError: no document is long enough.
    """
    length = max(_tokens(options))

    def all_windows() -> Iterator[Window]:
        for text, ids in read_tokens(source, tokenizer):
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            ends = range(length, len(ids) + 1, options.stride)[: options.each]
            yield from (Window(data_name(source), digest, end, ids[end - length : end]) for end in ends)

    return nonempty(islice(all_windows(), limit), f"no document in {source} has {length:,} tokens")


@report_oom()
def evaluate(
    contest: Contest, sources: Sequence[Path], options: Table1Options, embedder: Embedder | None = None
) -> Table:
    """Measure every row on every data set, which is a column.

    Args:
        contest: the models, readers and raw results.
        sources: files, folders or recipes.
        options: what to score.
        embedder: weighs REPLUG's passages; None: they weigh the same.

    Raises:
        ConfigError: a number is out of range.
        CorpusError: no document is long enough.
    """
    for name, least in (("tokens", min(_tokens(options))), ("decoder_tokens", options.decoder_tokens)):
        if least <= options.scored:
            raise ConfigError(f"{name} must exceed the {options.scored} scored ones, got {least}")
    lines: list[list[Cell]] = []
    counts: dict[str, int] = {}

    def measure(contestant: Contestant) -> None:
        rows = [
            row
            for reader in contest.readers_of(contestant)
            for row in _rows(contest, contestant, reader, options, embedder)
        ]
        work = partial(_nll, contestant, options, embedder)
        measured: list[list[tuple[Window, Values]]] = [[] for _ in rows]
        for source in sources:
            windows = tqdm(
                windows_of(source, contestant.tokenizer, options, contest.options.limit),
                f"{contestant.name}, {data_name(source)}",
            )
            for window, values in contest.measure(contestant, rows, windows, work):
                for one, row_values in zip(measured, values, strict=True):
                    one.append((window, row_values))
        for row, pairs in zip(rows, measured, strict=True):
            counts.update(
                {data_name(source): sum(pair[0].source == data_name(source) for pair in pairs) for source in sources}
            )
            figures = [
                _perplexity([pair for pair in pairs if pair[0].source == data_name(source)]) for source in sources
            ]
            speed = speed_cells([values for _, values in pairs])
            stride = None if row.sinks is None else row.sinks.stride
            lines.append([contestant.name, row.name, row.tokens, row.in_decoder, stride, *figures, *speed])

    contest.each(measure)
    named = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
    notes = [
        f"Perplexity of the last {options.scored} tokens of windows ({named}); 95 % intervals over documents. Figures"
        " of models with different tokenizers are not comparable. Tokens a second count those in the encoder."
    ]
    columns = {"model": 0, "reader": 0, "tokens": 0, "in the decoder": 0, "stride": 0}
    columns |= {data_name(each): 2 for each in sources} | SPEED
    return Table(columns, lines, notes)


def curves(table: Table) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Tokens and perplexity by data set and reader, to draw."""
    names = list(table.columns)
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for place in range(names.index("stride") + 1, len(names) - len(SPEED)):
        readers = found.setdefault(names[place], {})
        for row in table.rows:
            tokens, cell = row[2], row[place]
            if isinstance(tokens, int) and isinstance(cell, Estimate):
                stride = f", stride {row[4]}" if row[4] is not None else ""
                readers.setdefault(f"{Path(str(row[0])).name}, {row[1]}{stride}", []).append((tokens, cell.value))
    return found


def _perplexity(measurements: Sequence[tuple[Window, Values]]) -> Cell:
    """Over documents, because the windows of one are not independent."""
    nlls, tokens = Counter[str](), Counter[str]()
    for window, values in measurements:
        nlls[window.document] += values["nll"]
        tokens[window.document] += values["tokens"]
    return perplexity(list(nlls.values()), list(tokens.values()))


def _rows(
    contest: Contest, contestant: Contestant, reader: ReaderName, options: Table1Options, embedder: Embedder | None
) -> Iterator[Row]:
    """The rows of a reader that are measured: others have too few tokens, or too many for the decoder's window."""
    window, last, beyond_window = contestant.model.window, f"last {options.scored}", contest.options.beyond_window
    replug = min(options.replug_tokens, window - CHUNK)
    for tokens in _tokens(options):
        if reader == "full" and (tokens <= window or beyond_window):
            yield Row(reader, tokens, tokens, last)
        elif reader in ("cepe", "extensible") and (inside := options.decoder_tokens) < tokens:
            for ratio in contest.ratios_of(contestant, reader):
                if inside + places(tokens - inside, ratio) <= window or beyond_window:
                    yield Row(reader, tokens, inside, last, ratio=ratio)
        elif reader == "streaming":
            for stride in [None] if options.strides is None else numbers("strides", options.strides):
                sinks = sinks_of(contestant.model, options.sinks, options.recent, stride)
                yield Row(reader, tokens, min(tokens, sinks.limit), last, sinks)
        elif reader == "replug" and replug + CHUNK <= tokens:
            weighed = getattr(embedder, "fingerprint", None)
            yield Row(reader, tokens, replug, f"{last} {options.replug_chunks} {weighed}")


def _nll(contestant: Contestant, options: Table1Options, embedder: Embedder | None, row: Row, window: Window) -> Values:
    model, last = contestant.model, options.scored
    ids = window.ids[-row.tokens :]
    if row.reader == "full":
        return by_decoder(model, ids, [], last=last)
    if row.sinks is not None:
        return by_streaming(model, ids, row.sinks, last=last)
    before, ids = ids[: -row.in_decoder], ids[-row.in_decoder :]
    if row.reader == "cepe":
        return by_decoder(model, ids, chunks(before, CHUNK), last=last)
    if row.reader == "extensible":
        return by_decoder(model, ids, divided(model, [before]), last=last, ratio=row.ratio)
    decode = contestant.tokenizer.decode
    nearest = before[len(before) % CHUNK :][-CHUNK * options.replug_chunks :]
    passages = chunks(nearest, CHUNK)
    scores = replug_scores(embedder, decode(ids[:QUERY]), [decode(passage) for passage in passages])
    return by_replug(model, ids, passages, softmax_log_weights(scores), last=last)


def _tokens(options: Table1Options) -> list[int]:
    return numbers("tokens", options.tokens)
