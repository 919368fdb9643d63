"""Confidence intervals of figures over examples: percentile bootstrap (Efron, 1979)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2_000
BATCH = 100
"""Resamples in memory at a time."""
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> Estimate:
        """Apply `function` to the figure and its limits; it must be increasing, so that quantiles stay quantiles."""
        return Estimate(function(self.value), function(self.low), function(self.high))


def ratio(sums: Sequence[float], weights: Sequence[float]) -> Estimate:
    """Σ sums / Σ weights; for the interval, examples are resampled with their sums and weights.

    Args:
        sums: one per example, such as the negative log-likelihood of its tokens.
        weights: one per example, such as its number of tokens.

    Raises:
        ValueError: there are no examples.
    """
    if not sums:
        raise ValueError("an estimate needs at least one example")
    pairs = (np.asarray(sums, np.float64), np.asarray(weights, np.float64))  # (examples,) each
    value = float(_quotient(*pairs))
    return _resampled(value, pairs, _quotient)


def median(values: Sequence[float]) -> Estimate:
    """The median over examples; at least one."""
    data = np.asarray(values, np.float64)  # (examples,)
    return _resampled(float(np.median(data)), (data,), np.median)


def _resampled(value: float, data: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]) -> Estimate:
    """A figure with the interval of `statistic` over resampled examples; each array is (examples,)."""
    if len(data[0]) == 1:  # every resample would be this example
        return Estimate(value, value, value)
    interval = bootstrap(
        data, statistic, paired=True, method="percentile", n_resamples=RESAMPLES, batch=BATCH, rng=SEED
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def _quotient(sums: np.ndarray, weights: np.ndarray, axis: int = -1) -> np.ndarray:
    quotient: np.ndarray = sums.sum(axis) / weights.sum(axis)
    return quotient


def mean(values: Sequence[float]) -> Estimate:
    """The mean over examples."""
    return ratio(values, [1.0] * len(values))


def percent(values: Sequence[float]) -> Estimate:
    """The mean of shares over examples, in percent."""
    return mean(values).map(lambda share: 100 * share)


def perplexity(nlls: Sequence[float], tokens: Sequence[float]) -> Estimate:
    """exp(Σ nlls / Σ tokens), from negative log-likelihoods in nats and token counts, one of each per example."""
    return ratio(nlls, tokens).map(math.exp)


def macro_perplexity(domains: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Estimate:
    """The mean perplexity of domains, from NLLs and token counts of their examples, which are resampled in each."""
    random = np.random.default_rng(SEED)
    total, resampled = 0.0, np.zeros(RESAMPLES)
    for nlls, tokens in domains:
        sums, weights = np.asarray(nlls, np.float64), np.asarray(tokens, np.float64)
        total += math.exp(sums.sum() / weights.sum())
        drawn = random.integers(len(sums), size=(RESAMPLES, len(sums)))
        resampled += np.exp(sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    low, high = np.quantile(resampled, [0.025, 0.975]) / len(domains)
    return Estimate(total / len(domains), float(low), float(high))
