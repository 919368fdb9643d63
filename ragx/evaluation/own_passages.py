"""`ragx eval mine`: questions about an index's own passages, asked with the settings of `ragx ask`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ragx.corpus.questions import Question, parse_question
from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate, mean, median, percent
from ragx.evaluation.content_words import supports
from ragx.evaluation.metrics import contains
from ragx.evaluation.plot import draw_bars
from ragx.evaluation.results import Results, Values, read_results
from ragx.evaluation.tables import Cell, Table
from ragx.evaluation.writing import write_questions
from ragx.reader.prompt import REFUSAL, passage_text
from ragx.retrieval.rerankers import search_reranked
from ragx.util.files import durable_file
from ragx.util.terminal import notice
from ragx.util.text import counted

if TYPE_CHECKING:
    from ragx.config import ReaderOptions, SamplingParams
    from ragx.rag import RAG
    from ragx.retrieval import SearchResults
    from ragx.types import Answer, Hit, Passage

TASK = "mine"
DRAWN = 50
"""Questions to draw by default."""
TRIED = 20
"""Passages to write about at most for each question wanted: small models often fail."""
AT_ONCE = 8
SPARE = 60
"""Hits searched for in place of those that hold the answer."""
CUTOFFS = (1, 5, 10)


def draw_questions(rag: RAG, where: str | None, path: Path | None, *, count: int, max_tokens: int) -> list[Question]:
    """Questions that the model writes about passages drawn at random, always the same ones.

    Args:
        rag: an index and its readers.
        where: the only passages to draw from, as a filter; None: all.
        path: a file to keep the questions in, also if writing them is interrupted; None: none.
        count: how many to draw; fewer are returned if the model writes no more.
        max_tokens: longer questions and answers are left out.

    Raises:
        ConfigError: the model writes no question that its passage answers, or `path` cannot be written.
        EndpointError: the API fails.
    """
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    retriever, reader = rag.retriever, rag.readers["full"]
    reader.reserve(AT_ONCE)
    selected = retriever.select(where)
    rows = retriever.index.rows() if selected is None else np.flatnonzero(selected)
    drawn = np.random.default_rng(0).permutation(rows)[: count * TRIED].tolist()
    passages = (passage for row in drawn if (passage := retriever.index.passage(row)).text.strip())
    written: list[Values] = []
    try:
        with tqdm(desc="writing", total=count, unit=" questions") as bar:
            while len(written) < count and (batch := list(islice(passages, AT_ONCE))):
                new = write_questions(batch, reader, max_tokens=max_tokens)[: count - len(written)]
                written += new
                bar.update(len(new))
    finally:
        if path is not None and written:
            _keep(path, written)
    if not written:
        raise ConfigError(
            f"none of the model's questions about {counted(len(drawn), 'passage')} is answered there: use a larger"
            " --model, or your own --questions"
        )
    return [parse_question(row) for row in written]


def _keep(path: Path, written: Sequence[Values]) -> None:
    with durable_file(path, ConfigError) as file:
        for row in written:
            file.write(json.dumps(row).encode() + b"\n")
    notice(f"{counted(len(written), 'question')} in {path}")


def evaluate(
    rag: RAG,
    questions: Sequence[Question],
    results: Results,
    *,
    k: int,
    options: ReaderOptions,
    sampling: SamplingParams,
) -> dict[str, Values]:
    """Ask each question twice: as it is, and with the passages that hold its answer taken out of the hits.

    Args:
        rag: an index, with the search's settings, and the readers.
        questions: with answers.
        results: raw results, to continue.
        k: passages to retrieve and read.
        options: how to read them.
        sampling: how to decode.

    Returns:
        What was measured, by the question's key.

    Raises:
        ConfigError: a question does not fit into the decoder's window.
        EndpointError: an API fails; results so far are kept.
    """

    def measure(question: Question) -> Values:
        answer = rag.ask(question.text, k=k, sampling=sampling, **options.model_dump())
        found = [_is_gold(hit.passage, question) for hit in answer.hits]
        gold = {hit.passage.id for hit, is_gold in zip(answer.hits, found, strict=True) if is_gold}
        cited = {citation.passage_id for citation in answer.citations}
        without = rag.read(question.text, _without_gold(rag, question, k), options=options, sampling=sampling)
        return {
            "question": question.text,
            "answers": question.answers,
            "answer": answer.text,
            "rank": found.index(True) + 1 if gold else 0,
            "cited": len(cited),
            "cited_gold": len(cited & gold),
            "contains": _holds(answer.text, question),
            "refused": is_refusal(answer),
            "answer_without": without.text,
            "refused_without": is_refusal(without),
            "seconds": answer.timings.total,
        }

    return {
        question.key: results.measure(TASK, question.key, partial(measure, question))
        for question in tqdm(questions, desc="asking", unit=" questions")
    }


def _without_gold(rag: RAG, question: Question, k: int) -> SearchResults[Hit]:
    """The k best passages that do not hold the answer, as an index without those that do would give them."""

    def search(number: int) -> SearchResults[Hit]:
        hits = rag.retrieve(question.text, k=number + SPARE, rerank="none")
        hits[:] = [hit for hit in hits if not _is_gold(hit.passage, question)][:number]
        return hits

    return search_reranked(search, question.text, k, rag.reranker)


def _is_gold(passage: Passage, question: Question) -> bool:
    return any(passage.text == gold.text for gold in question.gold) or _holds(passage_text(passage), question)


def _holds(text: str, question: Question) -> bool:
    """Whether a text has a gold answer, or all content words that one adds to the question."""
    return contains(text, question.answers) or any(supports(text, question.text, answer) for answer in question.answers)


def is_refusal(answer: Answer) -> bool:
    """Whether an answer says that no passage holds it."""
    return answer.refused or contains(answer.text, [REFUSAL])


@dataclass(frozen=True)
class _Measure:
    """A row of the table."""

    name: str
    of: Callable[[Values], float | None]
    """Of one question; None: it has none."""
    summarise: Callable[[Sequence[float]], Estimate] = percent
    decimals: int = 1


def _measures(k: int) -> list[_Measure]:
    def recall(cutoff: int) -> Callable[[Values], float]:
        return lambda values: float(0 < values["rank"] <= cutoff)

    return [
        *(_Measure(f"recall@{cutoff} (%)", recall(cutoff)) for cutoff in CUTOFFS if cutoff < k),
        _Measure("recall@k (%)", lambda values: float(values["rank"] > 0)),
        _Measure("MRR", lambda values: 1 / values["rank"] if values["rank"] else 0.0, mean, 3),
        _Measure(
            "citation precision (%)", lambda values: values["cited_gold"] / values["cited"] if values["cited"] else None
        ),
        _Measure("answer contained (%)", lambda values: float(values["contains"])),
        _Measure("refused (%)", lambda values: float(values["refused"])),
        _Measure("refused without the answer (%)", lambda values: float(values["refused_without"])),
        _Measure("seconds, median", lambda values: float(values["seconds"]), median, 2),
    ]


def read_run(path: Path) -> tuple[Values, dict[str, Values]]:
    """The settings of another run, and what it measured, by the question's key.

    Raises:
        ConfigError: the file cannot be read or holds no results of `ragx eval mine`.
    """
    run, values = read_results(path)
    if run.get("task") != TASK:
        raise ConfigError(f"{path} holds results of another task than `ragx eval mine`")
    return run, {example: each for (_, example), each in values.items()}


def table(
    run: Values, measured: Mapping[str, Values], other: tuple[Values, Mapping[str, Values]] | None = None
) -> Table:
    """A row a measure.

    Args:
        run: the settings of the run.
        measured: what it measured, by the question's key.
        other: the same of another run, to compare with by the questions of both.

    Raises:
        ConfigError: the runs have no question in common.
    """
    other_run, other_measured = other or (run, measured)
    keys = [key for key in measured if key in other_measured]
    if not keys:
        raise ConfigError("--against: the runs have no question in common: give both the same --questions")
    columns, notes = ["measure", "this run"], _notes(run, len(keys))
    if other is not None:
        columns += ["other run", "difference"]
        notes.append(_differences(run, other_run, len(measured) - len(keys)))
    measures, rows = _measures(run["k"]), []
    for measure in measures:
        this, that = ([measure.of(values[key]) for key in keys] for values in (measured, other_measured))
        gains = [None if a is None or b is None else a - b for a, b in zip(this, that, strict=True)]
        rows.append([measure.name, *(_summary(measure, each) for each in (this, that, gains)[: len(columns) - 1])])
    return Table(dict.fromkeys(columns, 0), rows, notes, [measure.decimals for measure in measures])


def _summary(measure: _Measure, values: Sequence[float | None]) -> Cell:
    measured = [value for value in values if value is not None]
    return measure.summarise(measured) if measured else None


def _notes(run: Values, count: int) -> list[str]:
    return [
        f"{counted(count, 'question')}, k = {run['k']}; 95 % intervals by bootstrap over questions.",
        "A text holds the answer if it has all words that the answer adds to the question. Recall, MRR: the first hit"
        " that is the question's passage or holds the answer. Citation precision: the share of an answer's cited"
        " passages that do so; answers without citations are left out. Without the answer: asked again after all hits"
        " that do so were taken out.",
    ]


def _differences(run: Values, other: Values, missing: int) -> str:
    names = [name for name in dict.fromkeys([*run, *other]) if run.get(name) != other.get(name)]
    settings = "; ".join(f"{name} {run.get(name)!r} against {other.get(name)!r}" for name in names) or "none"
    left_out = f" {counted(missing, 'question')} of this run alone left out." if missing else ""
    return f"Paired by question; of seconds, the median difference.{left_out} Settings that differ: {settings}."


def draw(path: Path, table: Table) -> None:
    """Draw the shares of a table as a PNG: a group of bars for each measure, in it one for each run."""
    shares = [row for row in table.rows if str(row[0]).endswith("(%)")]
    runs = [name for name in table.columns if name not in ("measure", "difference")]
    draw_bars(
        path,
        [str(row[0]) for row in shares],
        {name: [row[place] for row in shares] for place, name in enumerate(runs, start=1)},
    )
