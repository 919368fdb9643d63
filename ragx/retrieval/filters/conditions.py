"""Conditions on the fields of passages.

A passage passes a test only if it has the field, so `not year == 2020` and `year != 2020` also keep passages without
a year.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TypeAlias

import numpy as np

from ragx.errors import ConfigError
from ragx.retrieval.filters.values import Holds

MAX_DEPTH = 100
"""Conditions inside one another."""

Passing: TypeAlias = Callable[[str, Holds], np.ndarray]
"""The passages, (n,) bool, with a field whose value holds."""


@dataclass(frozen=True)
class Condition:
    """What the fields of a passage must be."""

    fields: tuple[str, ...]
    """The names it uses, in order."""
    mask: Callable[[Passing], np.ndarray]
    """The passages, (n,) bool, that fulfil it."""
    depth: int = 1


def field_test(name: str, holds: Holds) -> Condition:
    """The passage has this field, and its value holds."""
    return Condition((name,), lambda passing: passing(name, holds))


def has_field(name: str) -> Condition:
    """The passage has this field, even if its value is null."""
    return field_test(name, lambda _: True)


def negated(condition: Condition) -> Condition:
    """The condition is not fulfilled.

    Raises:
        ConfigError: there are too many conditions inside one another; as for the two below.
    """
    return _combined([condition], lambda masks: ~masks[0])


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Every one of these, one at least, is fulfilled."""
    return _combined(conditions, lambda masks: reduce(and_, masks))


def any_of(conditions: Sequence[Condition]) -> Condition:
    """One of these is fulfilled."""
    return _combined(conditions, lambda masks: reduce(or_, masks))


def _combined(parts: Sequence[Condition], combine: Callable[[list[np.ndarray]], np.ndarray]) -> Condition:
    depth = 1 + max((part.depth for part in parts), default=0)
    if depth > MAX_DEPTH:
        raise ConfigError(f"where: more than {MAX_DEPTH} conditions are inside one another")
    names = dict.fromkeys(name for part in parts for name in part.fields)
    return Condition((*names,), lambda passing: combine([part.mask(passing) for part in parts]), depth)
