"""Answers from several sequences at once: the distribution of the next token is a mixture of theirs (REPLUG).

`MixtureDecoder` wraps a decoder of either backend. Answers from one sequence pass through it unchanged, so that all
readers share one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import ConfigError

if TYPE_CHECKING:
    from ragx.engine.backend import Batch, DecoderModel


@dataclass(frozen=True)
class Mixture:
    """How a prompt is divided into sequences, which stand in it one after another."""

    lengths: Sequence[int]
    """Tokens of each sequence, at least one."""
    log_weights: Sequence[float]
    """The logarithm of each sequence's weight; the weights sum to 1."""


def softmax_log_weights(scores: Sequence[float], temperature: float = 1.0) -> list[float]:
    """log softmax(s/τ) over the scores of passages (REPLUG, Shi et al., NAACL 2024)."""
    scaled = np.asarray(scores, np.float64) / temperature
    weights: list[float] = (scaled - np.logaddexp.reduce(scaled)).tolist()
    return weights


def mix(logits: np.ndarray, log_weights: Sequence[float]) -> np.ndarray:
    """log Σ_k λ_k softmax(logits_k): logits (K, V) -> (V,) float32."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    mixed: np.ndarray = np.logaddexp.reduce(log_probs + np.asarray(log_weights, np.float32)[:, None], axis=0)
    return mixed.astype(np.float32)


@dataclass(eq=False)
class MixtureSequence:
    """The sequences of one answer, as far as they have been read."""

    parts: list[Any]
    """Sequences of the wrapped decoder."""
    ends: list[int]
    """Where each one ends in the prompt."""
    mixture: Mixture | None
    """None: there is one sequence."""
    logits: list[np.ndarray]
    """Of the sequences that have been read, (V,) each."""
    read: int = 0
    """Tokens of the prompt read so far."""


class MixtureDecoder:
    """A decoder whose sequences may be mixtures."""

    def __init__(self, decoder: DecoderModel) -> None:
        self.decoder, self.batch_limit = decoder, decoder.batch_limit

    def sequence(self, context: Any, room: int) -> MixtureSequence:
        """A sequence that attends to `context`, or, if that is a `Mixture`, its sequences without passages.

        Raises:
            ConfigError: the decoder cannot read several sequences at once.
        """
        if not isinstance(context, Mixture):
            return MixtureSequence([self.decoder.sequence(context, room)], [room], None, [])
        if self.batch_limit == 1 and len(context.lengths) > 1:
            raise ConfigError("replug needs a decoder without a sliding window")
        answer = room - sum(context.lengths)
        parts = [self.decoder.sequence(None, length + answer) for length in context.lengths]
        return MixtureSequence(parts, list(accumulate(context.lengths)), context, [])

    def reuse(self, sequence: MixtureSequence, prompt: Sequence[int]) -> int:
        """As the wrapped decoder; a mixture is read whole."""
        return self.decoder.reuse(sequence.parts[0], prompt) if sequence.mixture is None else 0

    def prefill(self, sequence: MixtureSequence, tokens: Sequence[int], *, is_last: bool) -> np.ndarray:
        """Read the next tokens of a prompt, which may belong to several sequences; the logits (V,) after the last."""
        if sequence.mixture is None:
            return self.decoder.prefill(sequence.parts[0], tokens, is_last=is_last)
        logits = np.empty(0, np.float32)
        while tokens:
            number = len(sequence.logits)
            piece = tokens[: sequence.ends[number] - sequence.read]
            tokens = tokens[len(piece) :]
            sequence.read += len(piece)
            whole = sequence.read == sequence.ends[number]
            logits = self.decoder.prefill(sequence.parts[number], piece, is_last=whole)
            if whole:
                sequence.logits.append(np.array(logits, np.float32))
        return mix(np.stack(sequence.logits), sequence.mixture.log_weights) if is_last else logits

    def batch(self) -> MixtureBatch:
        """An empty batch."""
        return MixtureBatch(self.decoder.batch())


class MixtureBatch:
    """Answers that decode a token each per step, each in one row of the wrapped batch or in several."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._answers: list[MixtureSequence] = []
        self._owners: list[tuple[MixtureSequence, int]] = []  # a row: its answer, and its number in the mixture

    def join(self, sequence: MixtureSequence) -> None:
        """Add an answer whose prompt has been read, as the last one."""
        for number, part in enumerate(sequence.parts):
            self._batch.join(part)
            self._owners.append((sequence, number))
        sequence.parts, sequence.logits = [], []  # the batch has its own copies
        self._answers.append(sequence)

    def leave(self, row: int) -> None:
        """Remove an answer; the last one takes its place."""
        answer = self._answers[row]
        for place in reversed(range(len(self._owners))):
            if self._owners[place][0] is answer:
                self._batch.leave(place)
                self._owners[place] = self._owners[-1]
                self._owners.pop()
        self._answers[row] = self._answers[-1]
        self._answers.pop()

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Read one token of each answer; the logits (B, V) float32 after it."""
        places = {id(answer): place for place, answer in enumerate(self._answers)}
        owned = [places[id(answer)] for answer, _ in self._owners]
        logits = self._batch.step([tokens[place] for place in owned])  # (R, V), R ≥ B rows
        if len(owned) == len(self._answers):
            return logits[np.argsort(owned)] if owned != sorted(owned) else logits
        rows: list[dict[int, int]] = [{} for _ in self._answers]
        for row, (place, (_, number)) in enumerate(zip(owned, self._owners, strict=True)):
            rows[place][number] = row
        return np.stack([self._mixed(logits, answer, own) for answer, own in zip(self._answers, rows, strict=True)])

    def _mixed(self, logits: np.ndarray, answer: MixtureSequence, rows: dict[int, int]) -> np.ndarray:
        if answer.mixture is None:
            alone: np.ndarray = logits[rows[0]]
            return alone
        return mix(logits[[rows[number] for number in range(len(rows))]], answer.mixture.log_weights)
