"""The sampler's distribution is that of transformers' `generate`; its draws follow it and depend only on the seed."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ragx.config import SamplingParams
from ragx.engine.sampling import Sampler
from ragx.errors import ModelError

PARAMS = st.builds(
    SamplingParams,
    temperature=st.floats(0.3, 3),
    top_k=st.sampled_from([0, 1, 2, 10, 50, 10**6]),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.99, 0.99999, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.2, 1.0]),
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.3, 5.0]),
)


def random_logits(seed: int, size: int, *, ties: bool = False) -> NDArray[Any]:
    """In float64, where rounding decides no comparison; some tokens may be ruled out."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=random.uniform(0.1, 5), size=size)
    if ties:
        logits = logits.round(1)
    logits[random.random(size) < 0.1 * (seed % 2)] = -np.inf
    logits[random.integers(size)] = 1.0
    return logits


def expected_distribution(logits: NDArray[Any], before: list[list[int]], sampling: SamplingParams) -> NDArray[Any]:
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            TemperatureLogitsWarper(sampling.temperature),
            *([TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []),
            TopPLogitsWarper(sampling.top_p),
            MinPLogitsWarper(sampling.min_p),
        ]
    )
    ids = torch.tensor([list(chain(*before))], dtype=torch.long)
    scores: torch.Tensor = processors(ids, torch.from_numpy(logits)[None])  # type: ignore[arg-type]
    return scores.softmax(dim=-1)[0].numpy()


def distribution(logits: NDArray[Any], before: list[list[int]], sampling: SamplingParams) -> NDArray[Any]:
    dense = np.zeros(len(logits))
    tokens, probabilities = Sampler(sampling).distribution(logits, before)
    dense[tokens] = probabilities
    return dense


@settings(deadline=None, max_examples=500)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 400),
    before=st.lists(st.lists(st.integers(0, 450), max_size=20), max_size=3),
    sampling=PARAMS,
)
def test_the_distribution_is_that_of_transformers(
    seed: int, size: int, before: list[list[int]], sampling: SamplingParams
) -> None:
    logits = random_logits(seed, size, ties=sampling.top_p == 1)  # which of equal tokens top_p keeps is undefined
    given_logits = logits.copy()
    expected = expected_distribution(logits, before, sampling)
    actual = distribution(logits, before, sampling)
    assert np.array_equal(actual > 0, expected > 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    assert np.array_equal(logits, given_logits)


def test_a_large_vocabulary_in_float32() -> None:
    logits = random_logits(1, 128_000).astype(np.float32)
    for options in ({"top_k": 40}, {"top_p": 0.9}, {"top_p": 0.999, "min_p": 0.001}, {}):
        sampling = SamplingParams(temperature=0.7, **options)
        expected = expected_distribution(logits.astype(np.float64), [], sampling)
        assert abs(distribution(logits, [], sampling) - expected).sum() < 1e-4


@pytest.mark.parametrize("penalty", [1.0, 1.2, 0.8])
def test_greedy_decoding_takes_the_first_of_the_most_likely_tokens(penalty: float) -> None:
    logits = np.array([1, -3, 2, 2, -1, 2], np.float32)
    sampler = Sampler(SamplingParams(repetition_penalty=penalty))
    expected = {1.0: (2, 2), 1.2: (2, 3), 0.8: (2, 2)}[penalty]
    assert (sampler.choose(logits, []), sampler.choose(logits, [[2], [2, 0]])) == expected
    assert sampler.choose(logits, [[9]]) == 2  # a token without a logit


def test_draws_follow_the_distribution() -> None:
    logits, sampling = random_logits(1, 20), SamplingParams(temperature=1.3, top_k=8, seed=0)
    sampler, draws = Sampler(sampling), 20_000
    counts = np.bincount([sampler.choose(logits, []) for _ in range(draws)], minlength=20)
    expected = distribution(logits, [], sampling) * draws
    assert not counts[expected == 0].any()
    possible = expected > 0
    assert ((counts - expected)[possible] ** 2 / expected[possible]).sum() < 30  # chi-squared, 7 degrees: p = 1e-4


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1])
def test_a_seed_repeats_the_draws_whatever_else_is_sampled(seed: int) -> None:
    logits = random_logits(1, 1000)

    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=2.0, seed=seed))
        other = Sampler(SamplingParams(temperature=2.0))
        return [(sampler.choose(logits, []), other.choose(logits, []))[0] for _ in range(20)]

    assert draws(seed) == draws(seed)
    assert draws(seed) != draws(seed + 1 if seed < 0 else seed - 1)
    assert draws(None) != draws(None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_cannot_be_sampled_from(bad: float) -> None:
    logits = np.array([1, bad, 3], np.float32)
    for options in ({}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.5}):
        with pytest.raises(ModelError, match="cannot sample"):
            Sampler(SamplingParams(temperature=1.0, **options)).choose(logits, [])
    with pytest.raises(ModelError, match="cannot sample"):
        Sampler(SamplingParams(temperature=1.0)).choose(np.full(3, -np.inf), [])
    with pytest.raises(ModelError, match="cannot sample"):
        Sampler(SamplingParams(temperature=1.0, repetition_penalty=1e-45)).choose(np.ones(3, np.float32), [[1]])


@pytest.mark.parametrize("options", [{"temperature": 1e300}, {"temperature": 1.0, "repetition_penalty": 1e300}])
def test_extreme_settings_are_no_error(options: dict[str, float]) -> None:
    assert Sampler(SamplingParams(**options)).choose(np.array([1, -2, 3], np.float32), [[1]]) in {0, 1, 2}  # type: ignore[arg-type]


def test_log_probabilities_are_the_models_whatever_the_sampling() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32)) + 5
    sampler = Sampler(SamplingParams(temperature=0.5, top_k=1, repetition_penalty=9, top_logprobs=2))
    assert sampler.choose(logits, [[1]]) == 2  # the penalty makes 1 unlikely
    (choice,) = sampler.choices
    assert choice.logprob == pytest.approx(np.log(0.3))
    assert [token for token, _ in choice.top] == [1, 2]
    assert [value for _, value in choice.top] == pytest.approx(np.log([0.6, 0.3]))


def test_none_are_recorded_unless_requested() -> None:
    sampler = Sampler(SamplingParams())
    sampler.choose(np.zeros(3, np.float32), [])
    assert sampler.choices == []
