"""Batches of texts for one thread each, so that results do not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BATCH_TOKENS = 512
"""Tokens of a batch, padding included: what a layer computes from more no longer fits into a core's cache."""


def batches_of_similar_length(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of texts in batches of at most `BATCH_TOKENS`, or a single longer text; longest first."""
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= BATCH_TOKENS:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of B texts with zeros on the right: (B, L) int32."""
    values = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, numbers in zip(values, rows, strict=True):
        row[: len(numbers)] = numbers
    return values
