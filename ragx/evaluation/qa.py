"""Open-domain question answering (paper section 4.2, Table 7), and answers that only the encoder can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from tqdm import tqdm

from ragx.config import SamplingParams
from ragx.corpus.questions import Question
from ragx.errors import ConfigError
from ragx.evaluation import metrics
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.questions import distractors, normalised_passages
from ragx.evaluation.tables import Cell, Table
from ragx.reader.base import PreparedPrompt
from ragx.reader.full import FullReader
from ragx.reader.prompt import Prompt, passage_text, question_fits
from ragx.util.device import report_oom
from ragx.util.tokenization import chat_ids

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.base import Reader
    from ragx.reader.cepe import CepeReader
    from ragx.retrieval import Retriever
    from ragx.types import Passage, SearchMethod

GENERATION = SamplingParams(max_new_tokens=32)
"""Greedy."""
_METRICS = {"exact match (%)": "exact_match", "F1 (%)": "f1", "answer contained (%)": "contains"}
_SCORING = (
    "Greedy answers of at most 32 tokens; normalisation, exact match and F1 as SQuAD's, best over the gold answers."
    " Contained: a gold answer stands in the answer, as whole words. 95 % intervals over questions."
)


@dataclass(frozen=True)
class _Setting:
    reader: str
    k: int
    prompt_passages: int

    @property
    def name(self) -> str:
        return f"{self.reader} k={self.k}" + (
            f" prompt_passages={self.prompt_passages}" if self.reader == "cepe" else ""
        )


@report_oom()
def open_domain(
    reader: CepeReader,
    questions: Sequence[Question],
    retriever: Retriever,
    method: SearchMethod,
    results: Results,
    *,
    cepe_k: Sequence[int],
    full_k: Sequence[int],
    prompt_passages: int,
) -> Table:
    """Answers from k retrieved passages, read by `cepe` and by `full`.

    Args:
        reader: the reader; `full` is its decoder with all k in the prompt, as many as the window holds.
        questions: at least one.
        retriever: searches the index, once a question for the largest k.
        method: how it searches.
        results: raw results, to continue.
        cepe_k: passages that `cepe` reads, a row each.
        full_k: passages that `full` reads, a row each.
        prompt_passages: how many of `cepe`'s also stand in its prompt.

    Raises:
        ConfigError: a number is out of range, or no question fits into the decoder's window.
    """
    if min([*cepe_k, *full_k], default=0) < 1:
        raise ConfigError("name at least one k, none of them below 1")
    if prompt_passages < 0:
        raise ConfigError(f"prompt_passages must not be negative, as {prompt_passages} is")
    questions, left_out = _that_fit(reader, questions)
    readers: dict[str, Reader] = {"cepe": reader, "full": FullReader(reader.model, reader.tokenizer)}
    settings = [*(_Setting("cepe", k, prompt_passages) for k in cepe_k), *(_Setting("full", k, k) for k in full_k)]
    most = max(setting.k for setting in settings)

    def ask(question: Question) -> list[Values]:
        @lru_cache(maxsize=1)
        def passages() -> list[Passage]:
            return [hit.passage for hit in retriever.search(question.text, most, method)]

        def measure(setting: _Setting) -> Values:
            read = passages()[: setting.k]
            reading = readers[setting.reader].prepare(
                question.text, read, prompt_passages=setting.prompt_passages, sampling=GENERATION
            )
            found = any(metrics.contains(passage_text(passage), question.answers) for passage in read)
            return answered(reader, question, reading) | {"recall": found}

        def measured(setting: _Setting) -> Values:
            return results.measured(setting.name, question.key, lambda: measure(setting))

        return [measured(setting) for setting in settings]

    values = [ask(question) for question in tqdm(questions, desc="asking", unit=" questions")]
    rows: list[list[Cell]] = []
    for setting, of_setting in zip(settings, zip(*values, strict=True), strict=True):
        prompt = sum(value["prompt_passages"] for value in of_setting) / len(questions)
        recall = percent([value["recall"] for value in of_setting])
        rows.append([setting.reader, setting.k, f"{prompt:.1f}", *_cells(of_setting), recall])
    columns = {"reader": 0, "k": 0, "in the prompt": 0, **dict.fromkeys(_METRICS, 1), "answer in the k passages (%)": 1}
    return Table(columns, rows, [f"{len(questions)} questions{left_out}, passages by {method} search. {_SCORING}"])


@report_oom()
def gold_only(
    reader: CepeReader,
    questions: Sequence[Question],
    among: Sequence[Question],
    results: Results,
    *,
    counts: Sequence[int],
) -> Table:
    """Answers where the gold passages stand in the encoder alone, against none at all and against the prompt.

    Args:
        reader: the reader.
        questions: at least one, each with a gold passage.
        among: questions whose passages distractors are drawn from.
        results: raw results, to continue.
        counts: how many distractors stand beside the gold in the encoder, a row each.

    Raises:
        ConfigError: a count is negative, or no question fits into the decoder's window.
    """
    if any(count < 0 for count in counts):
        raise ConfigError(f"distractors must not be negative, as {min(counts)} is")
    questions, left_out = _that_fit(reader, questions)
    pool = normalised_passages(among)
    full = FullReader(reader.model, reader.tokenizer)

    def alone(question: Question) -> PreparedPrompt:
        return PreparedPrompt(Prompt(chat_ids(reader.tokenizer, question.text), 0), None)

    def in_prompt(question: Question, passages: Sequence[Passage]) -> PreparedPrompt:
        return full.prepare(question.text, passages, prompt_passages=0, sampling=GENERATION)

    def in_encoder(count: int) -> Callable[[Question], PreparedPrompt]:
        def prepare(question: Question) -> PreparedPrompt:
            passages = [*question.gold, *distractors(question, pool, count)]
            return reader.prepare(question.text, passages, prompt_passages=0, sampling=GENERATION)

        return prepare

    settings: dict[str, Callable[[Question], PreparedPrompt]] = {
        "closed book: the question alone": alone,
        "closed book: as below, without passages": lambda question: in_prompt(question, []),
        **{f"cepe: gold and {count} distractors in the encoder": in_encoder(count) for count in counts},
        "full: gold in the prompt": lambda question: in_prompt(question, question.gold),
    }

    def measured(setting: str, question: Question) -> Values:
        return results.measured(setting, question.key, lambda: answered(reader, question, settings[setting](question)))

    values: dict[str, list[Values]] = {setting: [] for setting in settings}
    for question in tqdm(questions, desc="asking", unit=" questions"):
        for setting, of_setting in values.items():
            of_setting.append(measured(setting, question))
    rows: list[list[Cell]] = [[setting, *_cells(of_setting)] for setting, of_setting in values.items()]
    columns = {"reading": 0, **dict.fromkeys(_METRICS, 1)}
    return Table(columns, rows, [f"{len(questions)} questions{left_out}. {_SCORING}"])


def answered(reader: CepeReader, question: Question, reading: PreparedPrompt) -> Values:
    """The answer to a question that a reader has prepared, and how it compares with the gold ones."""
    text = "".join(reader.stream(reading, GENERATION)).strip()
    return {
        "question": question.text,
        "answers": question.answers,
        "answer": text,
        "prompt_passages": reading.prompt.passages,
        "exact_match": metrics.exact_match(text, question.answers),
        "f1": metrics.f1(text, question.answers),
        "contains": metrics.contains(text, question.answers),
    }


def _that_fit(reader: CepeReader, questions: Sequence[Question]) -> tuple[list[Question], str]:
    """The questions that fit into the decoder's window, and what is to be said of the others."""
    window = reader.model.config.max_position_embeddings
    room = window - GENERATION.max_new_tokens
    fit = [each for each in questions if question_fits(reader.tokenizer, each.text, max_tokens=room)]
    if not fit:
        raise ConfigError(f"none of the questions fits into the decoder's window of {window} tokens")
    left_out = len(questions) - len(fit)
    return fit, f" ({left_out} more are too long for the decoder's window)" if left_out else ""


def _cells(values: Sequence[Values]) -> list[Cell]:
    return [percent([value[name] for value in values]) for name in _METRICS.values()]
