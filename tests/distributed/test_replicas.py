"""Which of the actors with the same shards is asked."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("ray")

from ragx.distributed.replicas import HEDGED_AT_ONCE, HEDGED_SHARE, Replicas


def test_actors_that_answer_are_asked_in_turn() -> None:
    replicas, asked = Replicas(3), Counter[int]()
    for _ in range(30):
        actor = replicas.first()
        asked[actor] += 1
        replicas.answered(actor)
    assert asked == {0: 10, 1: 10, 2: 10}


def test_an_actor_that_does_not_answer_is_asked_no_more() -> None:
    replicas = Replicas(2)
    silent = replicas.first()
    for _ in range(20):
        actor = replicas.first()
        assert actor != silent
        replicas.answered(actor)


def test_the_least_busy_actor_is_asked() -> None:
    replicas = Replicas(2)
    asked = [replicas.first() for _ in range(6)]
    assert Counter(asked) == {0: 3, 1: 3}
    for actor in asked:
        if actor == 1:
            replicas.answered(1)
    assert [replicas.first() for _ in range(3)] == [1, 1, 1]


def test_another_actor_is_asked_for_a_share_of_the_slow_searches() -> None:
    replicas, hedged = Replicas(2), 0
    for _ in range(1000):
        first = replicas.first()
        other = replicas.another([first], has_failed=False)
        if other is not None:
            assert other != first
            hedged += 1
            replicas.answered(other)
        replicas.answered(first)
    assert HEDGED_AT_ONCE < hedged <= HEDGED_AT_ONCE + 1000 * HEDGED_SHARE


def test_a_failed_search_is_always_given_to_another() -> None:
    replicas = Replicas(2)
    for _ in range(1000):
        first = replicas.first()
        other = replicas.another([first], has_failed=True)
        assert other == 1 - first
        assert replicas.another([first, other], has_failed=True) is None
        replicas.answered(first)
        replicas.answered(other)
