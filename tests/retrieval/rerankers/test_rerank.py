"""The first hits come in the reranker's order, the others stay; a reranker that fails changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.retrieval import SearchResults
from ragx.retrieval.rerankers import close_to_best, rerank, search_reranked
from ragx.types import Hit, Passage
from tests.helpers.tiny_cross_encoders import FailingReranker, LengthReranker
from tests.helpers.toy_embedders import passages


def hits(texts: Sequence[str]) -> SearchResults[Hit]:
    return SearchResults(Hit(passage, 1 / n) for n, passage in enumerate(passages(texts), start=1))


def ids(found: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in found]


@given(lengths=st.lists(st.integers(0, 5), max_size=12), depth=st.integers(1, 15))
def test_the_first_are_sorted_stably_and_the_tail_is_unchanged(lengths: list[int], depth: int) -> None:
    before = hits(["x" * length for length in lengths])
    after = SearchResults(before)
    rerank(after, LengthReranker(depth), "question")
    assert after[depth:] == before[depth:]
    assert ids(after[:depth]) == ids(sorted(before[:depth], key=lambda hit: -len(hit.passage.text)))
    by_id = {hit.passage.id: hit for hit in before}
    for hit in after[:depth]:
        assert hit.score == by_id[hit.passage.id].score
        assert (hit.rerank_score, hit.reranker) == (len(hit.passage.text), "longest")


class _Scores(LengthReranker):
    """Whatever scores."""

    def __init__(self, scores: object) -> None:
        super().__init__()
        self._scores = scores

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        return self._scores  # type: ignore[return-value]


@pytest.mark.parametrize(
    "reranker",
    [
        FailingReranker(),
        _Scores(np.array([1.0, np.nan])),
        _Scores(np.array([1.0, -np.inf])),
        _Scores(np.array([1.0])),
        _Scores(np.array([[1.0], [2.0]])),
        _Scores("none"),
    ],
)
def test_one_that_fails_leaves_the_order_and_one_note(reranker: LengthReranker) -> None:
    found = hits(["a", "long"])
    found.notes.append("before")
    rerank(found, reranker, "question")
    assert found == hits(["a", "long"])
    assert found.notes[0] == "before"
    (note,) = found.notes[1:]
    assert note.startswith(f"{reranker.name} failed: ")
    assert "\n" not in note


def test_ctrl_c_is_no_failure() -> None:
    class Interrupted(LengthReranker):
        def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(hits(["a"]), Interrupted(), "question")


def test_no_hits_are_not_scored() -> None:
    found = hits([])
    rerank(found, FailingReranker(), "question")
    assert found == []
    assert found.notes == []


def test_a_search_for_few_hits_reranks_all_that_the_reranker_may_see() -> None:
    everything = hits(["a", "bb", "ccc", "dddd", "eeeee"])
    asked: list[int] = []

    def search(k: int) -> SearchResults[Hit]:
        asked.append(k)
        return SearchResults(everything[:k], unsearched=0.5)

    found = search_reranked(search, "question", 2, LengthReranker(depth=4))
    assert [hit.passage.text for hit in found] == ["dddd", "ccc"]
    assert found.unsearched == 0.5
    assert len(search_reranked(search, "question", 5, LengthReranker(depth=4))) == 5
    assert search_reranked(search, "question", 2, None) == everything[:2]
    assert asked == [4, 5, 2]


def test_the_question_is_normalised_as_passages_are() -> None:
    reranker = LengthReranker()
    rerank(hits(["a"]), reranker, "cafe\u0301 \udcff")
    assert reranker.questions == ["café \ufffd"]


@given(lengths=st.lists(st.integers(0, 5), max_size=12), depth=st.integers(1, 15), within=st.integers(0, 5))
def test_the_hits_close_to_the_best_one_are_its_length_away(lengths: list[int], depth: int, within: int) -> None:
    reranked = hits(["x" * length for length in lengths])
    reranked.notes.append("a note")
    rerank(reranked, LengthReranker(depth), "question")
    close = close_to_best(reranked, within)
    rest = reranked[len(close) :]
    best = max(lengths[:depth], default=0)
    assert [*close, *rest] == reranked
    assert all(len(hit.passage.text) >= best - within for hit in close[:depth])
    assert not rest or len(rest[0].passage.text) < best - within
    assert close.notes == reranked.notes


@given(scores=st.lists(st.none() | st.floats(-9, 9), max_size=8), within=st.floats(0, 9))
def test_close_hits_are_found_in_any_order(scores: list[float | None], within: float) -> None:
    found = [replace(hit, rerank_score=score) for hit, score in zip(hits("x" * len(scores)), scores, strict=True)]
    best = max((score for score in scores if score is not None), default=0.0)
    close = close_to_best(found, within)
    assert {hit.rerank_score for hit in close} >= {score for score in scores if score == best}
    assert all(hit.rerank_score is None or hit.rerank_score >= best - within for hit in close)
    assert len(close) == len(found) or None not in {hit.rerank_score for hit in close}


@pytest.mark.parametrize("within", [0, 3, math.inf])
def test_hits_without_scores_are_all_close(within: float) -> None:
    found = hits(["a", "b"])
    assert close_to_best(found, within) == found
    assert close_to_best([*found], within) == found
