"""Which of several sources the n-th example comes from: evenly interleaved, and computed from n alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd


def pick(weights: Sequence[int], position: int) -> tuple[int, int]:
    """The source of `position`, and how many earlier positions came from it.

    Every run of sum(weights) positions that starts at a multiple of that sum holds `weights[i]` of source i.
    """
    divisor = gcd(*weights)
    period = _period(tuple(weight // divisor for weight in weights))
    periods, place = divmod(position, len(period))
    source, before = period[place]
    return source, periods * (weights[source] // divisor) + before


@lru_cache(maxsize=16)
def _period(weights: tuple[int, ...]) -> list[tuple[int, int]]:
    # the ideal place of the k-th of w examples is (k + 1/2) / w of the period
    places = [((turn + 0.5) / weight, source, turn) for source, weight in enumerate(weights) for turn in range(weight)]
    return [(source, turn) for _, source, turn in sorted(places)]
