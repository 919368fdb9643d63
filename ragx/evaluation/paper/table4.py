"""Table 4: questions and summaries of long texts, by reader and number of tokens (paper section 6)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tqdm import tqdm

from ragx.config import SamplingParams
from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.documents import chunks
from ragx.evaluation.paper.answers import check_rouge, f1, is_chosen, rouge
from ragx.evaluation.paper.beside import beside
from ragx.evaluation.paper.contest import SPEED, Contest, Contestant, places, row_name, sinks_of, speed_cells
from ragx.evaluation.paper.decoding import decode
from ragx.evaluation.paper.long_inputs import TASKS, LongInput, choices, divide, parse_source, read_inputs
from ragx.evaluation.paper.options import Table4Options, numbers
from ragx.evaluation.results import Values
from ragx.evaluation.tables import Cell, Table
from ragx.reader.base import PreparedPrompt
from ragx.reader.prompt import Prompt
from ragx.types import ReaderName
from ragx.util.device import report_oom

CHUNK = 256
"""Tokens of a passage in the encoder."""
SHORTEST_SAMPLE = 10
"""Tokens that a sampled answer has at least."""


@dataclass(frozen=True)
class Row:
    """A reader with so many tokens of text and answer."""

    reader: ReaderName
    tokens: int | None
    """None: all."""
    in_decoder: int | None
    """As `tokens`."""
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
class Case:
    """A text and a question, and the seed that samples the answer."""

    item: LongInput
    seed: int | None

    @property
    def key(self) -> str:
        """Unique in a run."""
        return self.item.key if self.seed is None else f"{self.item.key}:{self.seed}"


@report_oom()
def evaluate(contest: Contest, sources: Sequence[str], options: Table4Options) -> Table:
    """Measure every row on every data set, which is a column. `replug` has no rows.

    Args:
        contest: the models, readers and raw results.
        sources: `TASK=FILE`, one of each task.
        options: what is read, and how answers are decoded.

    Raises:
        ConfigError: a task is unknown or given twice, or a number is out of range.
        CorpusError: a file cannot be read.
    """
    files = [parse_source(source) for source in sources]
    if len({task for task, _ in files}) < len(files):
        raise ConfigError("--data must name each task once")
    longest = max(_answer_tokens(task, options) for task, _ in files)
    for tokens in (*_sizes(options), options.decoder_tokens):
        if tokens is not None and tokens <= longest:
            raise ConfigError(f"tokens and decoder-tokens must exceed the {longest} of an answer, got {tokens}")
    if any(TASKS[task].measure == "ROUGE-L" for task, _ in files):
        check_rouge()
    seeds = numbers("seeds", options.seeds)
    cases = [
        Case(item, seed)
        for task, path in files
        for item in read_inputs(task, path, contest.options.limit)
        for seed in (seeds if TASKS[task].sampled else [None])
    ]
    lines: list[list[Cell]] = []

    def measure(contestant: Contestant) -> None:
        rows = [row for name in contest.readers_of(contestant) for row in _rows(contest, contestant, name, options)]
        measured: list[list[tuple[Case, Values]]] = [[] for _ in rows]

        def answer(row: Row, case: Case) -> Values:
            prepared = _prepared(contestant, row, case.item, options)
            task = TASKS[case.item.task]
            return decode(
                contestant, prepared, _sampling(case, options), shortest=SHORTEST_SAMPLE if task.sampled else 0
            )

        for case, values in contest.measure(contestant, rows, tqdm(cases, contestant.name), answer):
            for pairs, row_values in zip(measured, values, strict=True):
                pairs.append((case, row_values))
        for row, pairs in zip(rows, measured, strict=True):
            cells = [percent(_scores([pair for pair in pairs if pair[0].item.task == task])) for task, _ in files]
            speed = speed_cells([values for _, values in pairs])
            sizes = ["all" if size is None else size for size in (row.tokens, row.in_decoder)]
            lines.append([contestant.name, row.name, *sizes, *cells, *speed])

    contest.each(measure)
    numbers_of = Counter(task for task, _ in {(case.item.task, case.item.key) for case in cases})
    counts = ", ".join(f"{numbers_of[task]} {task}" for task, _ in files)
    notes = [
        f"Percent, best over the references ({counts}); 95 % intervals over questions. Tokens include those of the"
        f" answer: at most {options.answer_tokens} to a question, up to a line break, and {options.summary_tokens} in a"
        " summary. Tokens a second count those read."
    ]
    columns = {"model": 0, "reader": 0, "tokens": 0, "in the decoder": 0}
    columns |= {f"{task} {TASKS[task].measure}": 1 for task, _ in files} | SPEED
    return Table(columns, lines, notes)


def score(item: LongInput, text: str) -> float:
    """Of an answer, from 0 to 1."""
    measure = TASKS[item.task].measure
    if measure == "accuracy":
        return float(is_chosen(text, choices(item.question), item.answers))
    return f1(text, item.answers) if measure == "F1" else rouge("rougeL", text, item.answers)


def _scores(pairs: Sequence[tuple[Case, Values]]) -> list[float]:
    """Of each item, averaged over seeds."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for case, values in pairs:
        scores[case.item.key].append(score(case.item, values["answer"]))
    return [sum(each) / len(each) for each in scores.values()]


def _sizes(options: Table4Options) -> list[int | None]:
    return [
        size
        for part in options.tokens.split(",")
        for size in ([None] if part.strip() == "all" else numbers("tokens", part))
    ]


def _answer_tokens(task: str, options: Table4Options) -> int:
    return options.summary_tokens if TASKS[task].measure == "ROUGE-L" else options.answer_tokens


def _rows(contest: Contest, contestant: Contestant, reader: ReaderName, options: Table4Options) -> Iterator[Row]:
    """The rows of a reader that are measured: others have too few tokens, or too many for the decoder's window."""
    settings = f"answers {options.answer_tokens} {options.summary_tokens}"
    longest = math.inf if contest.options.beyond_window else contestant.model.window
    inside = options.decoder_tokens
    for tokens in _sizes(options):
        if reader in ("cepe", "extensible") and inside < (tokens or math.inf):
            for ratio in contest.ratios_of(contestant, reader):
                before = math.inf if tokens is None and ratio else places((tokens or inside) - inside, ratio)
                if inside + before <= longest:
                    yield Row(reader, tokens, inside, settings, ratio)
        elif reader == "full" and tokens is not None and tokens <= longest:
            yield Row(reader, tokens, tokens, settings)
        elif reader == "streaming":
            sinks = sinks_of(contestant.model, options.sinks, options.recent, options.streaming_stride)
            yield Row(reader, tokens, tokens, f"{settings} {sinks}")


def _sampling(case: Case, options: Table4Options) -> SamplingParams:
    task = TASKS[case.item.task]
    return SamplingParams(
        max_new_tokens=_answer_tokens(case.item.task, options),
        temperature=1.0 if task.sampled else 0.0,
        top_p=0.95,
        seed=case.seed,
        stop=() if task.measure == "ROUGE-L" else ("\n",),
    )


def _prepared(contestant: Contestant, row: Row, item: LongInput, options: Table4Options) -> PreparedPrompt:
    model, divided = contestant.model, partial(divide, contestant.tokenizer, item)
    answer_tokens = _answer_tokens(item.task, options)
    if row.reader in ("cepe", "extensible"):
        inside = options.decoder_tokens
        encoded = None if row.tokens is None else row.tokens - inside
        before, ids, request = divided(in_decoder=inside - answer_tokens, in_encoder=encoded)
        passages = [before] if row.ratio else chunks(before, min(CHUNK, model.encoder_window))
        return beside(model, Prompt(ids, 0, request), passages, row.ratio)
    room = 2**62 if row.tokens is None else row.tokens - answer_tokens
    _, ids, request = divided(in_decoder=room, in_encoder=0)
    layout = None
    if row.reader == "streaming":
        layout = sinks_of(model, options.sinks, options.recent, options.streaming_stride)
    return PreparedPrompt(Prompt(ids, 0, request), None, layout=layout)
