"""Keys and values of prompts read lately: a prompt that begins like one of them is read from where it differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragx.util.device import free_memory

if TYPE_CHECKING:
    from ragx.engine.backend import ContextLike

FREE_SHARE = 1 / 16
"""A cache takes at most this share of the free memory."""
CPU_LIMIT = 256 << 20
"""The most bytes that a cache takes in main memory."""


@dataclass(eq=False)
class _Prompt:
    tokens: list[int]
    arrays: list[Any]
    """Keys and values of each layer in turn, (1, G, N, D), of NumPy or torch."""

    @property
    def size(self) -> int:
        return sum(array.nbytes for array in self.arrays)


def size_limit(device: str) -> int:
    """The most bytes that a cache on a device takes."""
    limit = int(free_memory(device) * FREE_SHARE)
    return limit if device.startswith("cuda") else min(limit, CPU_LIMIT)


def shareable(prompt: Sequence[int], context: ContextLike | None) -> Sequence[int]:
    """The first tokens of a prompt, whose keys and values do not depend on passages; the last token may attend."""
    return prompt[:-1] if context is None else prompt[:-1][: context.attend_from]


class PrefixCache:
    """A bounded cache, which drops first what was used longest ago.

    Only tokens that attend to no passages belong in it: their keys and values depend on the prompt alone.
    """

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` bytes."""
        self.limit = limit
        self._prompts: list[_Prompt] = []  # the one used last comes last

    @property
    def size(self) -> int:
        """The bytes it holds."""
        return sum(prompt.size for prompt in self._prompts)

    def longest(self, tokens: Sequence[int]) -> list[Any]:
        """Keys and values of the most tokens, N, with which a known prompt begins as `tokens`; empty: none."""
        lengths = [_shared(prompt.tokens, tokens) for prompt in self._prompts]
        length = max(lengths, default=0)
        if not length:
            return []
        prompt = self._prompts.pop(lengths.index(length))
        self._prompts.append(prompt)
        return [array[:, :, :length] for array in prompt.arrays]

    def add(self, tokens: Sequence[int], arrays: Sequence[Any]) -> None:
        """Copy a prompt's keys and values, (1, G, S, D) with its N tokens first; S ≥ N."""
        one = sum(array[:, :, :1].nbytes for array in arrays)
        tokens = list(tokens[: self.limit // one])
        length = len(tokens)
        if not length or any(_shared(prompt.tokens, tokens) == length for prompt in self._prompts):
            return
        self._prompts = [prompt for prompt in self._prompts if _shared(prompt.tokens, tokens) < len(prompt.tokens)]
        while self.size + length * one > self.limit:
            self._prompts.pop(0)
        copies = [array[:, :, :length] + 0 for array in arrays]  # copies in both NumPy and torch
        self._prompts.append(_Prompt(tokens, copies))


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of equal tokens at the start."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
