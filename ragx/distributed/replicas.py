"""Which of the actors with the same shards to ask."""

from __future__ import annotations

import threading
from collections.abc import Collection

HEDGED_SHARE = 0.05
"""Maximum share of searches that are hedged: sent to another actor too because the first is slow (Dean and Barroso, The
Tail at Scale, 2013). Without a limit, hedging doubles the load of actors that are busy already."""
HEDGED_AT_ONCE = 10
"""Searches that may be hedged in a burst."""


class Replicas:
    """The actors with the same shards, and how many of their searches have not been answered. Thread-safe."""

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._unanswered = [0] * number
        self._searches = 0
        self._hedges = float(HEDGED_AT_ONCE)

    def first(self) -> int:
        """The actor to ask: the one with the fewest unanswered searches; ties are broken in rotation.

        An actor that hangs is soon passed over.
        """
        with self._lock:
            self._searches += 1
            self._hedges = min(HEDGED_AT_ONCE, self._hedges + HEDGED_SHARE)
            return self._ask(range(len(self._unanswered)))

    def another(self, asked: Collection[int], *, has_failed: bool) -> int | None:
        """Another actor to ask because those `asked` failed or are slow; None: none is left, or hedging must wait."""
        with self._lock:
            others = [each for each in range(len(self._unanswered)) if each not in asked]
            if not others or (not has_failed and self._hedges < 1):
                return None
            if not has_failed:
                self._hedges -= 1
            return self._ask(others)

    def answered(self, actor: int) -> None:
        """Record that a search by this actor has ended."""
        with self._lock:
            self._unanswered[actor] -= 1

    def _ask(self, among: Collection[int]) -> int:
        number = len(self._unanswered)
        actor = min(among, key=lambda each: (self._unanswered[each], (self._searches + each) % number))
        self._unanswered[actor] += 1
        return actor
