"""Table 3: accuracy of in-context learning, with demonstrations in the decoder and in the encoder (section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.paper.beside import beside
from ragx.evaluation.paper.classification import (
    Labelled,
    balanced,
    continuations,
    digest,
    labels_of,
    read_labelled,
    sample,
)
from ragx.evaluation.paper.contest import SPEED, Contest, Contestant, data_name, row_name, speed_cells
from ragx.evaluation.paper.options import Table3Options, numbers
from ragx.evaluation.results import Values
from ragx.evaluation.tables import Cell, Table
from ragx.reader.base import PreparedPrompt
from ragx.reader.prompt import Prompt
from ragx.types import ReaderName
from ragx.util.device import report_oom
from ragx.util.text import counted


@dataclass(frozen=True)
class Row:
    """Demonstrations in the decoder and in the encoder."""

    reader: ReaderName
    in_decoder: int
    in_encoder: int
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
        return f"{self.name} {self.in_decoder} + {self.in_encoder} {self.settings}"


@dataclass(frozen=True)
class DataSet:
    """Demonstrations to draw from, and texts to classify."""

    name: str
    train: list[Labelled]
    test: list[Labelled]
    labels: list[str]
    digest: str
    """Of the demonstrations and labels."""


@dataclass(frozen=True)
class Case:
    """A text to classify."""

    data: DataSet
    seed: int
    row: Labelled

    @property
    def key(self) -> str:
        """Unique in a run."""
        return f"{self.data.name} {self.data.digest} {self.seed}:{digest(self.row)}"


@report_oom()
def evaluate(contest: Contest, sources: Sequence[tuple[Path, Path]], options: Table3Options) -> Table:
    """Measure every row on every data set, which is a column. `replug` and `streaming` have no rows.

    Args:
        contest: the models, readers and raw results.
        sources: files of demonstrations and of texts to classify, JSON lines with `text` and `label`.
        options: prompts and scores.

    Raises:
        ConfigError: the template has no text or label, or the demonstrations do not fit into the window.
        CorpusError: a file cannot be read.
    """
    if not (options.template.count("{text}") == options.template.count("{label}") == 1):
        raise ConfigError(f"template must contain {{text}} and {{label}} once, got {options.template!r}")
    data = []
    for train, test in sources:
        shown, asked = read_labelled(train), read_labelled(test)
        labels = labels_of(shown, asked)
        data.append(DataSet(data_name(test), shown, asked, labels, digest(*shown, Labelled("", str(labels)))))
    seeds, rows = numbers("seeds", options.seeds), contest.options.limit
    cases = [Case(each, seed, row) for each in data for seed in seeds for row in sample(each.test, rows or 250, seed)]
    lines: list[list[Cell]] = []

    def measure(contestant: Contestant) -> None:
        own = [row for name in contest.readers_of(contestant) for row in _rows(contest, contestant, name, options)]
        measured: list[list[tuple[Case, Values]]] = [[] for _ in own]
        alone = cache(partial(_alone, contestant))

        def score(row: Row, case: Case) -> Values:
            return _scores(contestant, row, case, options) | {"alone": alone(tuple(case.data.labels))}

        for case, values in contest.measure(contestant, own, tqdm(cases, contestant.name), score):
            for pairs, row_values in zip(measured, values, strict=True):
                pairs.append((case, row_values))
        for row, pairs in zip(own, measured, strict=True):
            cells = [
                percent([is_right(values, case, options) for case, values in pairs if case.data is each])
                for each in data
            ]
            speed = speed_cells([values for _, values in pairs])
            lines.append([contestant.name, row.name, row.in_decoder, row.in_encoder, *cells, *speed])

    contest.each(measure)
    notes = [
        f"Accuracy in percent over {counted(len(seeds), 'draw')} of balanced demonstrations ({options.seeds}), by the"
        f" likelihood of labels ({options.score}); 95 % intervals."
    ]
    columns = {"model": 0, "reader": 0, "in the decoder": 0, "in the encoder": 0}
    return Table({**columns, **dict.fromkeys([each.name for each in data], 1), **SPEED}, lines, notes)


def _rows(contest: Contest, contestant: Contestant, reader: ReaderName, options: Table3Options) -> list[Row]:
    few, *_ = inside = numbers("decoder-shots", options.decoder_shots)
    if reader == "full":
        return [Row(reader, count, 0, repr(options.template)) for count in inside]
    if reader in ("cepe", "extensible"):
        ratios, counts = contest.ratios_of(contestant, reader), numbers("shots", options.encoder_shots)
        return [Row(reader, few, count, repr(options.template), ratio) for ratio in ratios for count in counts]
    return []


def _alone(contestant: Contestant, labels: Sequence[str]) -> list[float]:
    """log p of each label after the start token."""
    ids = contestant.tokenizer.plain_ids([f" {label}" for label in labels])
    return continuations(contestant.model, PreparedPrompt(Prompt(_start(contestant), 0, 0), None), ids)


def _start(contestant: Contestant) -> list[int]:
    tokenizer = contestant.tokenizer
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return [0 if start is None else start]


def _scores(contestant: Contestant, row: Row, case: Case, options: Table3Options) -> Values:
    """log p of each label after the prompt, and its length in tokens."""
    tokenizer, model = contestant.tokenizer, contestant.model
    drawn = balanced(case.data.train, row.in_decoder + row.in_encoder, case.seed)
    inside, encoded = drawn[: row.in_decoder], drawn[row.in_decoder :]
    asked = case.row.asked(options.template)
    shown = "".join(f"{each.shown(options.template)}\n\n" for each in inside)
    prompt = [*_start(contestant), *tokenizer.plain_ids([shown + asked])[0]]
    labels = tokenizer.plain_ids([f" {label}" for label in case.data.labels])
    if len(prompt) + max(map(len, labels)) > model.window:
        raise ConfigError(f"{row.in_decoder} demonstrations take {len(prompt)} tokens: the window has {model.window}")
    question_start = len(prompt) - len(tokenizer.plain_ids([asked])[0])
    passages = tokenizer.plain_ids([each.shown(options.template) for each in encoded])
    prepared = beside(model, Prompt(prompt, 0, question_start), passages, row.ratio, prompted=bool(inside))
    return {
        "log_probs": continuations(model, prepared, labels),
        "lengths": [len(each) for each in labels],
        "read_tokens": len(prompt) + prepared.context_tokens,
    }


def is_right(values: Values, case: Case, options: Table3Options) -> bool:
    """Whether the label of the highest score is the case's."""
    scores = np.array(values["log_probs"])
    if "calibrated" in options.score:
        scores = scores - np.array(values["alone"])
    if "length" in options.score:
        scores = scores / np.array(values["lengths"])
    return case.data.labels[int(scores.argmax())] == case.row.label
