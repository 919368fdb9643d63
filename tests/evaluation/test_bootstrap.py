"""Confidence intervals: the figure itself is exact, the interval covers and repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.evaluation.bootstrap import Estimate, mean, median, percent, perplexity, ratio

VALUES = st.lists(st.floats(0, 100), min_size=1, max_size=30)


@settings(deadline=None)
@given(VALUES)
def test_a_mean_is_the_mean_within_an_interval_within_the_values(values: list[float]) -> None:
    estimate = mean(values)
    assert estimate.value == pytest.approx(np.mean(values))
    slack = 1e-9  # of rounding
    assert min(values) - slack <= estimate.low <= estimate.high + slack <= max(values) + 2 * slack


@settings(deadline=None)
@given(VALUES)
def test_the_same_values_give_the_same_interval(values: list[float]) -> None:
    assert mean(values) == mean(values)


@settings(deadline=None)
@given(st.floats(0, 10), st.integers(1, 20))
def test_equal_examples_have_an_interval_of_no_width(value: float, count: int) -> None:
    estimate = mean([value] * count)
    assert (estimate.low, estimate.high) == pytest.approx((value, value))


def test_examples_count_by_their_weight() -> None:
    assert ratio([2.0, 30.0], [1, 3]).value == 8.0
    assert perplexity([2.0, 30.0], [1, 3]).value == pytest.approx(math.exp(8))
    assert percent([True, False, True, True]).value == 75.0


def test_the_interval_of_shares_is_the_binomial_one() -> None:
    estimate = mean([1.0] * 30 + [0.0] * 70)
    error = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert estimate.low == pytest.approx(0.3 - error, abs=0.015)
    assert estimate.high == pytest.approx(0.3 + error, abs=0.015)


def test_a_median_within_the_values() -> None:
    estimate = median([5.0, 1.0, 9.0, 2.0])
    assert estimate.value == 3.5
    assert 1 <= estimate.low < 3.5 < estimate.high <= 9
    assert median([2.0]) == Estimate(2, 2, 2)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    estimates = [mean(list(random.normal(5, 1, size=40))) for _ in range(200)]
    assert 0.88 <= np.mean([estimate.low <= 5 <= estimate.high for estimate in estimates]) <= 0.99


def test_a_function_applies_to_the_figure_and_both_limits() -> None:
    assert Estimate(1, 0, 2).map(lambda x: 10 * x) == Estimate(10, 0, 20)


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        mean([])
