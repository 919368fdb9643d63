"""The likelihood that the hits hold the answer, by a reranker's best score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.errors import ModelError
from ragx.retrieval import SearchResults
from ragx.retrieval.rerankers import rerank
from ragx.retrieval.rerankers.calibration import Calibration, fit, read_calibration
from ragx.types import Hit
from tests.helpers.tiny_cross_encoders import FailingReranker, LengthReranker
from tests.helpers.toy_embedders import passages

HALF_AT_4 = Calibration(slope=1.0, offset=-4.0)


def likelihood_of(texts: list[str], reranker: LengthReranker, calibration: Calibration | None) -> float | None:
    reranker.calibration = calibration
    hits = SearchResults(Hit(passage, 1.0) for passage in passages(texts))
    rerank(hits, reranker, "question")
    return hits.likelihood


def test_it_is_a_logistic_function_of_the_best_score() -> None:
    assert likelihood_of(["xx", "xxxx", "x"], LengthReranker(), HALF_AT_4) == pytest.approx(0.5)
    assert likelihood_of(["x", "xxx"], LengthReranker(), HALF_AT_4) == pytest.approx(1 / (1 + math.e))


def test_it_is_unknown_without_a_calibration_or_scores() -> None:
    assert likelihood_of(["x"], LengthReranker(), None) is None
    assert likelihood_of(["x"], FailingReranker(), HALF_AT_4) is None
    assert likelihood_of([], LengthReranker(), HALF_AT_4) is None


@given(st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(-1e3, 1e3))
def test_it_stays_between_0_and_1(score: float, slope: float, offset: float) -> None:
    assert 0 <= Calibration(slope=slope, offset=offset).likelihood(np.array([score])) <= 1


@given(st.integers(0, 2**32 - 1))
def test_fitted_to_scores_drawn_from_a_calibration_it_is_that_calibration(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = Calibration(slope=0.8, offset=-1.2)
    scores = random.normal(1.5, 3, 4000)  # at the true middle, so that both kinds are nearly equally frequent
    answered = random.random(4000) < [true.likelihood(np.array([score])) for score in scores]
    found = fit(scores.tolist(), answered.tolist())
    assert found.slope == pytest.approx(true.slope, abs=0.15)
    assert found.offset == pytest.approx(true.offset, abs=0.25)


def test_a_fit_takes_both_kinds_as_equally_frequent() -> None:
    once = fit([0.0, 1.0, 2.0, 3.0], [False, True, False, True])
    many = fit([0.0, 1.0, 2.0, 3.0] + [0.0, 2.0] * 9, [False, True, False, True] + [False, False] * 9)
    assert many.slope == pytest.approx(once.slope)
    assert many.offset == pytest.approx(once.offset)


def test_it_is_read_from_the_config() -> None:
    assert read_calibration({"calibration": {"slope": 1, "offset": -4}}, "owl") == HALF_AT_4
    assert read_calibration({}, "owl") is None
    with pytest.raises(ModelError, match="owl"):
        read_calibration({"calibration": {"slope": "steep"}}, "owl")
