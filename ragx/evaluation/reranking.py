"""Rerankers compared: how high they put the first passage with an answer, and the time that they add."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ragx.evaluation.bootstrap import mean, percent
from ragx.evaluation.metrics import contains
from ragx.evaluation.tables import Cell, Table
from ragx.retrieval.rerankers.base import scores_in_order

if TYPE_CHECKING:
    from ragx.corpus.questions import Question
    from ragx.evaluation.results import Results, Values
    from ragx.retrieval.rerankers import Reranker
    from ragx.types import Hit, Passage

CUTOFFS = (1, 3, 5, 10)
COLUMNS = {"reranker": 0, **{f"answer in {cutoff}": 1 for cutoff in CUTOFFS}, "MRR": 3, "ms added": 0}
NONE = "none"
"""The order of the search."""


def evaluate(
    questions: Sequence[Question],
    search: Callable[[str, int], Sequence[Hit]],
    rerankers: Sequence[Reranker],
    results: Results,
) -> Table:
    """The share of questions with an answer in the first 1, 3, 5 and 10 passages, and the mean reciprocal rank.

    A passage has an answer if its text contains one as whole words. The first row is the order of the search.

    Args:
        questions: with answers; at least one.
        search: finds a number of hits for a question, best first.
        rerankers: with different names.
        results: raw results: the rank of the first passage with an answer, from 1, or 0 if none has.

    Raises:
        Exception: a reranker fails.
    """
    count = max([max(CUTOFFS), *(reranker.depth for reranker in rerankers)])
    measured: dict[str, list[Values]] = {name: [] for name in (NONE, *(reranker.name for reranker in rerankers))}
    for reranker in rerankers:  # models are slower at first
        _reranked(reranker, questions[0], lambda: _passages(search, questions[0], count))
    for question in tqdm(questions, unit=" questions"):
        found = cache(partial(_passages, search, question, count))
        measured[NONE].append(results.measure(NONE, question.key, partial(_found, question, found)))
        for reranker in rerankers:
            rerank = partial(_reranked, reranker, question, found)
            measured[reranker.name].append(results.measure(reranker.name, question.key, rerank))
    note = f"{len(questions)} questions, {count} passages each, 95 % intervals by bootstrap over questions."
    return Table(COLUMNS, [_row(name, values) for name, values in measured.items()], [note])


def _passages(search: Callable[[str, int], Sequence[Hit]], question: Question, count: int) -> list[Passage]:
    return [hit.passage for hit in search(question.text, count)]


def _found(question: Question, passages: Callable[[], Sequence[Passage]]) -> Values:
    return {"rank": _rank(passages(), question)}


def _reranked(reranker: Reranker, question: Question, passages: Callable[[], Sequence[Passage]]) -> Values:
    first, rest = passages()[: reranker.depth], passages()[reranker.depth :]
    began = time.perf_counter()
    scores = scores_in_order(reranker, question.text, first)
    seconds = time.perf_counter() - began
    order = np.argsort(-scores, kind="stable")
    return {"rank": _rank([*(first[place] for place in order), *rest], question), "seconds": seconds}


def _rank(passages: Sequence[Passage], question: Question) -> int:
    return next((place for place, each in enumerate(passages, 1) if contains(each.text, question.answers)), 0)


def _row(name: str, values: Sequence[Values]) -> list[Cell]:
    ranks = [int(each["rank"]) for each in values]
    within = [percent([float(0 < place <= cutoff) for place in ranks]) for cutoff in CUTOFFS]
    reciprocal = mean([1 / place if place else 0.0 for place in ranks])
    return [name, *within, reciprocal, None if name == NONE else mean([1000 * each["seconds"] for each in values])]
