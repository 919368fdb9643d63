"""Reranker: scores a question with each of the first hits; `rerank` reorders them by these scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Protocol

import numpy as np

from ragx.corpus.document import normalise
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.retrieval.retriever import SearchResults
from ragx.types import Hit, Passage
from ragx.util.text import first_line
from ragx.util.tracing import span

DEPTH = 20
"""First hits that the rerankers of ragx rescore."""


class Reranker(Protocol):
    """The interface of a reranker."""

    name: str
    """What users call it."""
    depth: int
    """How many of the first hits it rescores."""
    calibration: Calibration | None
    """What its scores say about whether a passage holds the answer, if that is known."""
    order: float
    """Weight of the search's order: this times ln n is subtracted from the score of hit n; 0 for none."""

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        """A score for each passage, (n,) float32; higher is better, and only scores of one call are comparable.

        Any exception leaves the hits in the retriever's order.
        """


def search_reranked(
    search: Callable[[int], SearchResults[Hit]], question: str, k: int, reranker: Reranker | None
) -> SearchResults[Hit]:
    """The first k hits of a search, reranked.

    Args:
        search: finds a number of hits, best first.
        question: what they are reranked for.
        k: how many to return; the reranker sees at least as many as it rescores.
        reranker: None: the hits stay as they are.
    """
    if reranker is None:
        return search(k)
    hits = search(max(k, reranker.depth))
    rerank(hits, reranker, question)
    del hits[k:]
    return hits


def close_to_best(hits: Sequence[Hit], within: float) -> SearchResults[Hit]:
    """The hits that the reranker scores at most `within` below the best one.

    Hits without a score are further down than those that have one, and stay if all of these do.
    """
    kept = copy(hits) if isinstance(hits, SearchResults) else SearchResults(hits)
    scores = [hit.rerank_score for hit in hits if hit.rerank_score is not None]
    least = max(scores, default=0.0) - within
    if any(score < least for score in scores):
        kept[:] = [hit for hit in hits if hit.rerank_score is not None and hit.rerank_score >= least]
    return kept


def scores_in_order(reranker: Reranker, question: str, passages: Sequence[Passage]) -> np.ndarray:
    """The scores of passages that a search found, best first: (n,) float32."""
    scores = np.asarray(reranker.scores(normalise(question), passages), np.float32)
    places = np.arange(1, len(passages) + 1, dtype=np.float32)
    return scores - np.float32(reranker.order) * np.log(places) if reranker.order else scores


def rerank(hits: SearchResults[Hit], reranker: Reranker, question: str) -> None:
    """Reorder the first `reranker.depth` hits in place, by score and stably; the others stay.

    Hits keep the retriever's score beside the new one. A calibrated reranker also sets `hits.likelihood`. If the
    reranker fails, all stay, and one note says so.
    """
    first = hits[: reranker.depth]
    if not first:
        return
    try:
        with span("ragx.rerank", reranker=reranker.name, passages=len(first)):
            scores = scores_in_order(reranker, question, [hit.passage for hit in first])
        if scores.shape != (len(first),) or not np.isfinite(scores).all():
            raise ValueError(f"it gave no score for some of {len(first)} passages")
    except Exception as error:  # a model, library or server can raise anything, and the hits are good without it
        hits.notes.append(f"{reranker.name} failed: {first_line(error)}; hits keep the order of the search")
        return
    if reranker.calibration is not None:
        hits.likelihood = reranker.calibration.likelihood(scores)
    hits[: len(first)] = [
        replace(first[n], rerank_score=float(scores[n]), reranker=reranker.name)
        for n in np.argsort(-scores, kind="stable")
    ]
