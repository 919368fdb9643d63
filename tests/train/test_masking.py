"""Context masking as in paper A.2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragx_train.data.masking import MaskingSettings, mask

CHUNKS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), max_size=6)


@given(CHUNKS, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**16))
def test_masking_leaves_prefixes_in_order(chunks: list[list[int]], chunk: float, whole: float, seed: int) -> None:
    kept = mask(chunks, MaskingSettings(chunk=chunk, whole=whole), np.random.default_rng(seed))
    assert all(kept)
    remaining = iter(chunks)
    assert all(any(chunk[: len(prefix)] == prefix for chunk in remaining) for prefix in kept)


@given(CHUNKS, st.integers(0, 2**16))
def test_probabilities_of_0_and_1(chunks: list[list[int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    assert mask(chunks, MaskingSettings(chunk=0), random) == chunks
    assert mask(chunks, MaskingSettings(chunk=1, whole=1), random) == []
    shorter = mask(chunks, MaskingSettings(chunk=1, whole=0), random)
    assert sum(map(len, shorter)) <= sum(map(len, chunks)) - len(chunks)


def test_the_shares_are_those_of_the_paper() -> None:
    random, length, draws = np.random.default_rng(0), 10, 40_000
    lengths = np.array([sum(map(len, mask([list(range(length))], MaskingSettings(), random))) for _ in range(draws)])
    shares = np.bincount(lengths, minlength=length + 1) / draws
    suffix = 0.3 * 0.9 / length  # lengths 0 to 9 are equally likely
    expected = [suffix + 0.3 * 0.1, *[suffix] * (length - 1), 0.7]
    assert shares == pytest.approx(np.array(expected), abs=4 * np.sqrt(0.25 / draws))
