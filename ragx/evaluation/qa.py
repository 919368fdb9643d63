"""Open-domain question answering (paper section 4.2, Table 7), and answers from the encoder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

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
from ragx.reader.prompt import Prompt, passage_text
from ragx.retrieval.rerankers import close_to_best, search_reranked
from ragx.util.device import report_oom

if TYPE_CHECKING:
    from ragx.evaluation.results import Results, Values
    from ragx.reader.base import Reader
    from ragx.reader.cepe import CepeReader
    from ragx.retrieval import Retriever, SearchResults
    from ragx.retrieval.rerankers import Reranker
    from ragx.types import Hit, Passage, ReaderName, SearchMethod

SAMPLING = SamplingParams(max_new_tokens=32)
"""Greedy."""
_METRICS = {"exact match (%)": "exact_match", "F1 (%)": "f1", "answer contained (%)": "contains"}
_SCORING = (
    f"Greedy answers of at most {SAMPLING.max_new_tokens} tokens; normalisation, exact match and F1 as in SQuAD, best"
    " over the gold answers. Contained: the answer has a gold answer in it, as whole words. 95 % intervals over"
    " questions."
)


@dataclass(frozen=True)
class _Setting:
    reader: ReaderName
    k: int
    prompt_passages: int

    @property
    def name(self) -> str:
        prompt = f" prompt_passages={self.prompt_passages}" if self.reader == "cepe" else ""
        return f"{self.reader} k={self.k}{prompt}"


class PassageSource(NamedTuple):
    """Where the passages of questions come from."""

    find: Callable[[Question, int], Sequence[Passage]]
    """The best k passages for a question; fewer if there are no more."""
    name: str
    """In a sentence: passages …"""


GIVEN = PassageSource(lambda question, k: question.passages[:k], "of each question's own, in their order")


def searched(
    retriever: Retriever, method: SearchMethod, reranker: Reranker | None = None, within: float | None = None
) -> PassageSource:
    """Passages from an index, whose top hits the reranker reorders; `within`: as of `ReaderOptions`, None: all."""

    def find(question: Question, k: int) -> list[Passage]:
        def search(count: int) -> SearchResults[Hit]:
            return retriever.search(question.text, count, method)

        hits = search_reranked(search, question.text, k, reranker)
        return [hit.passage for hit in (hits if within is None else close_to_best(hits, within))]

    how = f"by {method} search" + (f", reranked by {reranker.name}" if reranker else "")
    return PassageSource(find, how + ("" if within is None else f", those scored at most {within:g} below the best"))


@report_oom()
def open_domain(
    readers: Mapping[ReaderName, Reader],
    questions: Sequence[Question],
    source: PassageSource,
    results: Results,
    *,
    cepe_k: Sequence[int],
    full_k: Sequence[int],
    prompt_passages: Sequence[int],
) -> Table:
    """Answers from k passages, read by `cepe`, if it is among the readers, and by `full`.

    Args:
        readers: `full`, with as many of the k passages in the prompt as the window holds, and perhaps `cepe`.
        questions: at least one.
        source: finds the passages, once per question for the largest k.
        results: raw results, to continue.
        cepe_k: passages that `cepe` reads, one row each.
        full_k: passages that `full` reads, one row each.
        prompt_passages: `cepe`'s passages that also stand in its prompt, one row each for every k.

    Raises:
        ConfigError: a number is out of range, or no question fits into the decoder's window.
    """
    if min([*cepe_k, *full_k], default=0) < 1:
        raise ConfigError("cepe_k and full_k must name at least one k, all positive")
    if min(prompt_passages, default=-1) < 0:
        raise ConfigError("prompt_passages must name at least one number, none negative")
    questions, left_out = _fitting(readers["full"], questions)
    cepe = [_Setting("cepe", k, number) for k, number in product(cepe_k, prompt_passages)]
    settings = [*cepe, *(_Setting("full", k, k) for k in full_k)]
    settings = [setting for setting in settings if setting.reader in readers]
    largest_k = max(setting.k for setting in settings)

    def ask(question: Question) -> list[Values]:
        @lru_cache(maxsize=1)  # no search if all results are in the file
        def found() -> Sequence[Passage]:
            return source.find(question, largest_k)

        def answer(setting: _Setting) -> Values:
            passages = found()[: setting.k]
            reader = readers[setting.reader]
            prepared = reader.prepare(
                question.text, passages, prompt_passages=setting.prompt_passages, sampling=SAMPLING
            )
            recall = any(metrics.contains(passage_text(passage), question.answers) for passage in passages)
            return answer_values(reader, question, prepared) | {"recall": recall}

        return [results.measure(setting.name, question.key, partial(answer, setting)) for setting in settings]

    values = [ask(question) for question in tqdm(questions, desc="answering", unit=" questions")]
    of_settings = dict(zip(settings, zip(*values, strict=True), strict=True))
    plain = [each for each in settings if each.reader == "full"]
    best = max(plain, key=lambda each: _share(of_settings[each]), default=None)
    rows: list[list[Cell]] = []
    for setting, setting_values in of_settings.items():
        in_prompt = sum(value["prompt_passages"] for value in setting_values) / len(questions)
        recall = percent([value["recall"] for value in setting_values])
        gain = _gain(setting_values, of_settings[best]) if best and setting.reader == "cepe" else None
        rows.append([setting.reader, setting.k, f"{in_prompt:.1f}", *_cells(setting_values), gain, recall])
    columns = {
        "reader": 0,
        "k": 0,
        "in the prompt": 0,
        **dict.fromkeys(_METRICS, 1),
        "above full": 1,
        "answer in the k passages (%)": 1,
    }
    notes = [f"{len(questions)} questions{left_out}, passages {source.name}. {_SCORING}"]
    if best and len(plain) < len(settings):
        notes.append(
            f"Above full: share of answers that contain a gold answer, less that of the best `full` (k = {best.k}), in"
            " points, paired by question."
        )
    return Table(columns, rows, notes)


@report_oom()
def gold_only(
    reader: CepeReader,
    questions: Sequence[Question],
    distractor_questions: Sequence[Question],
    results: Results,
    *,
    counts: Sequence[int],
) -> Table:
    """Answers with the gold passages in the encoder alone, compared with no passages and with gold in the prompt.

    Args:
        reader: the reader.
        questions: at least one, each with a gold passage.
        distractor_questions: questions whose passages serve as distractors.
        results: raw results, to continue.
        counts: numbers of distractors beside the gold passages in the encoder, one row each.

    Raises:
        ConfigError: a count is negative, or no question fits into the decoder's window.
    """
    if any(count < 0 for count in counts):
        raise ConfigError(f"distractors must not be negative, got {min(counts)}")
    questions, left_out = _fitting(reader, questions)
    pool = normalised_passages(distractor_questions)
    full = FullReader(reader.model, reader.tokenizer)

    def question_alone(question: Question) -> PreparedPrompt:
        return PreparedPrompt(Prompt(reader.tokenizer.chat_ids(question.text), passages=0, question_start=0), None)

    def in_prompt(question: Question, passages: Sequence[Passage]) -> PreparedPrompt:
        return full.prepare(question.text, passages, prompt_passages=0, sampling=SAMPLING)

    def in_encoder(question: Question, count: int) -> PreparedPrompt:
        passages = [*question.gold, *distractors(question, pool, count)]
        return reader.prepare(question.text, passages, prompt_passages=0, sampling=SAMPLING)

    settings: dict[str, Callable[[Question], PreparedPrompt]] = {
        "closed book: the question alone": question_alone,
        "closed book: as below, without passages": lambda question: in_prompt(question, []),
        **{f"cepe: gold and {count} distractors in the encoder": partial(in_encoder, count=count) for count in counts},
        "full: gold in the prompt": lambda question: in_prompt(question, question.gold),
    }

    def answer(setting: str, question: Question) -> Values:
        return answer_values(reader, question, settings[setting](question))

    values: dict[str, list[Values]] = {setting: [] for setting in settings}
    for question in tqdm(questions, desc="answering", unit=" questions"):
        for setting, setting_values in values.items():
            setting_values.append(results.measure(setting, question.key, partial(answer, setting, question)))
    rows: list[list[Cell]] = [[setting, *_cells(setting_values)] for setting, setting_values in values.items()]
    columns = {"setting": 0, **dict.fromkeys(_METRICS, 1)}
    return Table(columns, rows, [f"{len(questions)} questions{left_out}. {_SCORING}"])


def answer_values(reader: Reader, question: Question, prepared: PreparedPrompt) -> Values:
    """The answer to a question from its prepared prompt, and its scores against the gold answers."""
    text = reader.decode(prepared, SAMPLING)
    return {
        "question": question.text,
        "answers": question.answers,
        "answer": text,
        "prompt_passages": prepared.prompt.passages,
        "exact_match": metrics.exact_match(text, question.answers),
        "f1": metrics.f1(text, question.answers),
        "contains": metrics.contains(text, question.answers),
    }


def _fitting(reader: Reader, questions: Sequence[Question]) -> tuple[list[Question], str]:
    """The questions that fit into the decoder's window, and a phrase for a table's note that counts the others."""
    fitting = [each for each in questions if reader.fits(each.text, answer=SAMPLING.max_new_tokens)]
    if not fitting:
        raise ConfigError(f"none of the questions fits into the decoder's window of {reader.decoder_window} tokens")
    too_long = len(questions) - len(fitting)
    return fitting, f" ({too_long} more are too long for the decoder's window)" if too_long else ""


def _share(values: Sequence[Values]) -> float:
    return float(sum(value["contains"] for value in values) / len(values))


def _gain(values: Sequence[Values], others: Sequence[Values]) -> Cell:
    return percent([one["contains"] - other["contains"] for one, other in zip(values, others, strict=True)])


def _cells(values: Sequence[Values]) -> list[Cell]:
    return [percent([value[name] for value in values]) for name in _METRICS.values()]
