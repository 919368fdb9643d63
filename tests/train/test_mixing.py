"""Interleaved sources: in order, and in proportion to their weights."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from ragx_train.data.mixing import pick

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any)


@given(WEIGHTS, st.integers(0, 30))
def test_each_source_is_read_in_order_and_in_proportion(weights: list[int], rounds: int) -> None:
    seen: Counter[int] = Counter()
    for position in range(rounds * sum(weights)):
        source, index = pick(weights, position)
        assert index == seen[source]
        seen[source] += 1
    assert [seen[source] for source in range(len(weights))] == [rounds * weight for weight in weights]


def test_two_of_one_and_one_of_another_alternate() -> None:
    assert [pick([2, 1], position)[0] for position in range(6)] == [0, 1, 0, 0, 1, 0]
    assert pick([200, 100], 5) == pick([2, 1], 5)
