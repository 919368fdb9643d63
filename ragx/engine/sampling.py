"""Sampler: chooses the next token as transformers' `generate` would, in NumPy, with its own random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragx.config import SamplingParams
from ragx.errors import ModelError

Floats = NDArray[np.floating[Any]]


class Constraint(Protocol):
    """Which tokens may come next in one answer."""

    def allowed(self, count: int) -> NDArray[np.bool_]:
        """Whether each of the first `count` tokens may come next, (V,); at least one may."""

    def accept(self, token: int) -> None:
        """Continue after a token."""


@dataclass(frozen=True)
class Choice:
    """A chosen token, and the most likely ones in its place, best first: ids and logarithms of probabilities."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


class Sampler:
    """Samples the tokens of one answer; its random generator is independent of other answers."""

    def __init__(self, sampling: SamplingParams, constraint: Constraint | None = None) -> None:
        self.sampling = sampling
        self.choices: list[Choice] = []
        """What has been chosen so far, if `top_logprobs` asks for it."""
        self._constraint = constraint
        seed = sampling.seed
        self._random = np.random.default_rng(None if seed is None else seed % 2**64)  # NumPy's seeds are not negative

    def choose(self, logits: Floats, before: Sequence[Sequence[int]]) -> int:
        """Choose a token from logits (V,); `before` holds the tokens before it, in one or several runs.

        Raises:
            ModelError: logits to sample from are NaN, or infinite after the penalty.
        """
        top = self.sampling.top_logprobs
        if self._constraint is None:
            token = self._choose(logits, before)
        else:
            allowed = self._constraint.allowed(len(logits))
            token = self._choose(np.where(allowed, logits, -np.inf).astype(logits.dtype), before)
            self._constraint.accept(token)
        if top is not None:
            self.choices.append(_choice(logits, token, top))
        return token

    def _choose(self, logits: Floats, before: Sequence[Sequence[int]]) -> int:
        if self.sampling.is_greedy:
            return int(self._penalized(logits, before).argmax())
        tokens, probabilities = self.distribution(logits, before)
        return int(self._random.choice(tokens, p=probabilities))

    @np.errstate(all="ignore")  # extreme settings overflow, as in transformers
    def distribution(
        self, logits: Floats, before: Sequence[Sequence[int]]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The tokens to sample from and their probabilities; the others have none.

        Raises:
            ModelError: as `choose`.
        """
        sampling = self.sampling
        scores = self._penalized(logits, before) / sampling.temperature
        top = scores.max()
        if not np.isfinite(top):
            advice = "set repetition_penalty closer to 1 or dtype to float32"
            raise ModelError(f"cannot sample, because the largest logit is {top}: {advice}")
        tokens = np.arange(len(scores))
        if 0 < sampling.top_k < len(scores):  # ties with the last are kept
            tokens = np.flatnonzero(scores >= np.partition(scores, -sampling.top_k)[-sampling.top_k])
        weights = np.exp(scores[tokens] - top)
        if sampling.top_p < 1:
            kept = _nucleus(weights, sampling.top_p)
            tokens, weights = tokens[kept], weights[kept]
        if sampling.min_p:  # the most likely token weighs 1
            kept = weights >= sampling.min_p
            tokens, weights = tokens[kept], weights[kept]
        return tokens, weights / weights.sum(dtype=np.float64)

    @np.errstate(all="ignore")
    def _penalized(self, logits: Floats, before: Sequence[Sequence[int]]) -> Floats:
        penalty = self.sampling.repetition_penalty
        if penalty == 1:
            return logits
        used = np.fromiter(chain(*before), np.intp)
        used = used[used < len(logits)]  # the embeddings may have more rows than there are logits
        scores = logits.copy()
        scores[used] = np.where(scores[used] < 0, scores[used] * penalty, scores[used] / penalty)
        return scores


def _choice(logits: Floats, token: int, top: int) -> Choice:
    """The model's own probabilities, before any sampling setting."""
    scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    best = np.argpartition(scores, -top)[-top:] if top < len(scores) else np.arange(len(scores))
    best = best[np.argsort(-scores[best], kind="stable")][:top]
    return Choice(token, float(scores[token]), [(int(each), float(scores[each])) for each in best])


def _nucleus(weights: Floats, top_p: float) -> NDArray[np.intp]:
    """Indices of the largest weights that add up to at least `top_p` of all, at least one."""
    allowed = (1 - top_p) * weights.sum(dtype=np.float64)  # what the tokens left out may weigh
    small = weights < allowed / len(weights)  # all of these together weigh less: leave them unsorted
    rest = np.flatnonzero(~small)
    rest = rest[np.argsort(weights[rest], kind="stable")]
    below = weights[small].sum(dtype=np.float64) + weights[rest].cumsum(dtype=np.float64)
    return rest[min(np.searchsorted(below, allowed, side="right"), len(rest) - 1) :]
