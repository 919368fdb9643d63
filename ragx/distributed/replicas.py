"""Which of the actors with the same shards to ask."""

from __future__ import annotations

import threading
from collections.abc import Collection

HEDGED_SHARE = 0.05
"""Share of the searches for which another actor is asked too because the first is slow (Dean and Barroso, The Tail at
Scale, 2013). Without a limit, the searches of busy actors double, and they get busier."""
HEDGED_AT_ONCE = 10
"""Searches that may be hedged one after another, before the share counts."""


class Replicas:
    """The actors with the same shards, and how many of their searches have not been answered. Thread-safe."""

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._unanswered = [0] * number
        self._searches = 0
        self._hedges = float(HEDGED_AT_ONCE)

    def first(self) -> int:
        """The actor to ask: the one with the fewest unanswered searches, which a stopped one never is; ties in turn."""
        with self._lock:
            self._searches += 1
            self._hedges = min(HEDGED_AT_ONCE, self._hedges + HEDGED_SHARE)
            return self._ask(range(len(self._unanswered)))

    def another(self, asked: Collection[int], *, has_failed: bool) -> int | None:
        """The actor to ask after those that were asked and have failed, or are slow; None: no other, or not now."""
        with self._lock:
            others = [each for each in range(len(self._unanswered)) if each not in asked]
            if not others or (not has_failed and self._hedges < 1):
                return None
            if not has_failed:
                self._hedges -= 1
            return self._ask(others)

    def answered(self, actor: int) -> None:
        """A search that this actor was asked has ended."""
        with self._lock:
            self._unanswered[actor] -= 1

    def _ask(self, among: Collection[int]) -> int:
        number = len(self._unanswered)
        actor = min(among, key=lambda each: (self._unanswered[each], (self._searches + each) % number))
        self._unanswered[actor] += 1
        return actor
