"""Figure 4: a sentence in a long text, by the text's length and the sentence's depth (Kamradt, 2024; paper D)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.config import SamplingParams
from ragx.errors import ConfigError
from ragx.evaluation import metrics
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.needle import Sentences, read_sentences
from ragx.evaluation.paper.answers import check_rouge, rouge
from ragx.evaluation.paper.beside import beside
from ragx.evaluation.paper.contest import SPEED, Contest, Contestant, places, row_name, sinks_of, speed_cells
from ragx.evaluation.paper.decoding import decode
from ragx.evaluation.paper.options import NeedleOptions, numbers
from ragx.evaluation.plot import Grid
from ragx.evaluation.results import Values
from ragx.evaluation.tables import Cell, Table
from ragx.reader.base import PreparedPrompt
from ragx.reader.prompt import Prompt
from ragx.types import ReaderName
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
FOUND = "eat a sandwich and sit in Dolores Park"
"""What an answer must contain."""
BEFORE = "Here is a long text.\n\n"
QUESTION = "What is the best thing to do in San Francisco?"
REQUEST = f"\n\nAnswer the question from the text.\n\nQuestion: {QUESTION}\n\nAnswer:"
CHUNK = 256
"""Maximum number of tokens of a passage in the encoder, which consists of whole sentences."""


@dataclass(frozen=True)
class Row:
    """A reader with haystacks of one length."""

    reader: ReaderName
    tokens: int
    in_decoder: int
    settings: str
    """What else its values depend on."""
    ratio: int | None = None
    """Tokens for each embedding of `extensible`."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        return row_name(self.reader, self.ratio)

    @property
    def key(self) -> str:
        """Its name in the raw results."""
        return f"{self.name} {self.tokens} {self.in_decoder} {self.settings}"


@dataclass(frozen=True)
class Depth:
    """Where the needle is."""

    percent: float
    text: str
    """Tells haystacks apart."""

    @property
    def key(self) -> str:
        """Unique in a run."""
        return f"{self.text}, depth {self.percent:g}"


@report_oom()
def evaluate(contest: Contest, documents: Path, options: NeedleOptions) -> tuple[Table, list[Grid]]:
    """Measure every row at every depth, which is a column; and the grid of each model and reader.

    Args:
        contest: the models, readers and raw results.
        documents: a file, folder or recipe; its beginning is the haystack.
        options: lengths, depths and decoding.

    Raises:
        ConfigError: a number is out of range.
        CorpusError: the documents are too short.
    """
    lengths = numbers("lengths", options.lengths)
    check_rouge()
    depths = [100 * place / (options.depths - 1) for place in range(options.depths)]
    lines: list[list[Cell]] = []
    found_by: dict[str, list[tuple[int, list[float]]]] = {}

    def measure(contestant: Contestant) -> None:
        rows = [
            row for name in contest.readers_of(contestant) for row in _rows(contest, contestant, name, lengths, options)
        ]
        if not rows:
            return
        hay = read_sentences(documents, contestant.tokenizer, tokens=max(lengths))

        def ask(row: Row, depth: Depth) -> Values:
            prepared = _prepared(contestant, row, hay, depth.percent / 100, options)
            return decode(contestant, prepared, SamplingParams(max_new_tokens=options.max_new_tokens))

        places = [Depth(depth, hay.identity) for depth in depths]
        measured = [
            values for _, values in contest.measure(contestant, rows, tqdm(places, contestant.name), ask)
        ]  # (depths, rows)
        for row, values in zip(rows, zip(*measured, strict=True), strict=True):
            scores = [10 * rouge("rouge1", each["answer"], [NEEDLE]) for each in values]
            found = percent([float(metrics.contains(each["answer"], [FOUND])) for each in values])
            cells = [f"{each:.1f}" for each in (*scores, sum(scores) / len(scores))]
            lines.append([contestant.name, row.name, row.tokens, row.in_decoder, *cells, found, *speed_cells(values)])
            title = f"{Path(contestant.name).name}, {row.name}"
            found_by.setdefault(title, []).append((row.tokens, scores))

    contest.each(measure)
    notes = [
        "ROUGE-1 × 10 of the answer against the needle, by its depth; found: the answer contains"
        f" “{FOUND}”, in percent of depths. Tokens include question and answer, which has at most"
        f" {options.max_new_tokens}; greedy. The encoder reads whole sentences in passages of at most {CHUNK} tokens."
    ]
    columns = {"model": 0, "reader": 0, "tokens": 0, "in the decoder": 0}
    columns |= {f"{depth:.0f} %": 0 for depth in depths} | {"mean": 0, "found": 0} | SPEED
    grids = [
        Grid(title, [tokens for tokens, _ in rows], depths, [scores for _, scores in rows])
        for title, rows in found_by.items()
    ]
    return Table(columns, lines, notes), grids


def haystack(hay: Sentences, tokenizer: Tokenizer, *, tokens: int, depth: float) -> Sentences:
    """The first sentences of the text with the needle among them, at most so many tokens; depth 0 puts it first."""
    own = len(tokenizer.plain_ids([f" {NEEDLE}"])[0])
    ends = list(accumulate(hay.tokens))
    count = sum(end <= tokens - own for end in ends)
    places = [0, *ends[:count]]
    at = min(range(count + 1), key=lambda place: abs(places[place] - depth * places[-1]))
    return Sentences([*hay.texts[:at], NEEDLE, *hay.texts[at:count]], [*hay.tokens[:at], own, *hay.tokens[at:count]])


def passages_of(sentences: Sentences) -> list[str]:
    """Passages of whole sentences."""
    passages: list[list[str]] = []
    size = CHUNK
    for text, tokens in zip(sentences.texts, sentences.tokens, strict=True):
        if size + tokens > CHUNK:
            passages.append([])
            size = 0
        passages[-1].append(text)
        size += tokens
    return [" ".join(texts) for texts in passages]


def _rows(
    contest: Contest, contestant: Contestant, reader: ReaderName, lengths: Sequence[int], options: NeedleOptions
) -> Iterator[Row]:
    """The rows of a reader that are measured: others have too few tokens, or too many for the decoder's window."""
    fixed = len(contestant.tokenizer.plain_ids([BEFORE + NEEDLE + REQUEST])[0]) + options.max_new_tokens + 1
    if min(*lengths, options.decoder_tokens) < fixed:
        raise ConfigError(f"lengths and decoder-tokens must be at least {fixed}: needle, question and answer")
    settings = f"new {options.max_new_tokens}"
    longest = math.inf if contest.options.beyond_window else contestant.model.window
    inside = options.decoder_tokens
    for tokens in lengths:
        if reader in ("cepe", "extensible") and inside < tokens:
            for ratio in contest.ratios_of(contestant, reader):
                if inside + places(tokens - inside, ratio) <= longest:
                    yield Row(reader, tokens, inside, settings, ratio)
        elif reader == "full" and tokens <= longest:
            yield Row(reader, tokens, tokens, settings)
        elif reader == "streaming":
            sinks = sinks_of(contestant.model, options.sinks, options.recent, options.streaming_stride)
            yield Row(reader, tokens, tokens, f"{settings} {sinks}")


def _prepared(contestant: Contestant, row: Row, hay: Sentences, depth: float, options: NeedleOptions) -> PreparedPrompt:
    model, tokenizer = contestant.model, contestant.tokenizer
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    before, request = tokenizer.plain_ids([BEFORE, REQUEST])
    fixed = len(start) + len(before) + len(request) + options.max_new_tokens
    whole = haystack(hay, tokenizer, tokens=row.tokens - fixed, depth=depth)
    from_here = list(accumulate(reversed(whole.tokens)))[::-1]
    first = sum(tokens > row.in_decoder - fixed for tokens in from_here)  # the first sentence in the decoder
    (inside,) = tokenizer.plain_ids([" ".join(whole.texts[first:])])
    prompt = Prompt([*start, *before, *inside, *request], 0, len(start) + len(before) + len(inside))
    if row.reader == "streaming":
        layout = sinks_of(model, options.sinks, options.recent, options.streaming_stride)
        return PreparedPrompt(prompt, None, layout=layout)
    texts = whole.texts[:first]
    passages = [" ".join(texts)] if row.ratio else passages_of(Sentences(texts, whole.tokens[:first]))
    return beside(model, prompt, tokenizer.plain_ids(passages), row.ratio)
