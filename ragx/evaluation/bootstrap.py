"""What a figure would be over other examples: percentile bootstrap (Efron, 1979)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> Estimate:
        """`function`, which must not fall, of all three: quantiles go through it."""
        return Estimate(function(self.value), function(self.low), function(self.high))


def ratio(sums: Sequence[float], weights: Sequence[float]) -> Estimate:
    """Σ sums / Σ weights, with the examples drawn anew, each with its sum and weight, for the interval.

    Args:
        sums: one an example, such as the negative log-likelihood of its tokens.
        weights: as many, such as how many tokens there were.

    Raises:
        ValueError: there is no example.
    """
    if not sums:
        raise ValueError("an estimate needs at least one example")
    count = len(sums)
    pairs = np.array([sums, weights], np.float64)  # (2, examples)
    times = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    drawn = times @ pairs.T  # (RESAMPLES, 2)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return Estimate(float(pairs[0].sum() / pairs[1].sum()), float(low), float(high))


def mean(values: Sequence[float]) -> Estimate:
    """The mean over examples."""
    return ratio(values, [1.0] * len(values))


def percent(values: Sequence[float]) -> Estimate:
    """The mean of shares over examples, in per cent."""
    return mean(values).map(lambda share: 100 * share)


def perplexity(nlls: Sequence[float], tokens: Sequence[float]) -> Estimate:
    """exp(total negative log-likelihood / tokens), from sums in nats and counts, one of each an example."""
    return ratio(nlls, tokens).map(math.exp)
