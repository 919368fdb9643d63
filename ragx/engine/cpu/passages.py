"""A sequence, and what it attends to: the keys and values of its passages in every layer with cross-attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

KeysValues = dict[str, np.ndarray]
"""The outputs of the graph `passages`, by name."""


@dataclass(eq=False)
class CpuContext:
    """Φ of one question's passages, and what the graphs compute from it."""

    phi: np.ndarray
    """(M, E) float32."""
    offsets: Sequence[int]
    """Token positions at which passages start, and the end of the last one."""
    sharpen_beyond: int | None = None
    """M in training: a longer context sharpens the scores (paper appendix D, after YaRN); None: never."""
    gain: float = 1.0
    """Factor of the attention's output."""
    attend_from: int = 0
    """The first token of the prompt that attends to the passages."""
    record_attention: bool = False
    """Whether to record how much of the attention each passage receives."""
    keys_values: KeysValues = field(default_factory=dict)
    shares: list[np.ndarray] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """M."""
        return len(self.phi)

    def scale(self, head_dim: int) -> float:
        """The factor of the scores: 1/√D, times (1 + ln(M / `sharpen_beyond`) / 10)² for a longer context."""
        beyond = max(1.0, self.tokens / self.sharpen_beyond) if self.sharpen_beyond else 1.0
        return float((1 + math.log(beyond) / 10) ** 2 / math.sqrt(head_dim))

    def record(self, query: np.ndarray, keys: np.ndarray) -> None:
        """Record the attention of one token in one layer.

        Args:
            query: (H, D), scaled.
            keys: (G, M, D).
        """
        groups, dim = keys.shape[0], keys.shape[2]
        scores = query.reshape(groups, -1, dim) @ keys.astype(np.float32).transpose(0, 2, 1)  # (G, H/G, M)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        until = np.concatenate([[0], np.cumsum(weights.mean(axis=(0, 1)), dtype=np.float64)])
        self.shares.append(np.diff(until[list(self.offsets)]))

    def attention_shares(self) -> np.ndarray | None:
        """Each passage's share of the recorded attention (1, K), averaged over heads, layers and decoded tokens."""
        return np.mean(self.shares, axis=0)[None] if self.shares else None


@dataclass(eq=False)
class CpuSequence:
    """A prompt, as far as it has been read."""

    context: CpuContext | None
    cache: list[np.ndarray]
    """Keys and values of each layer in turn, (1, G, S, D)."""
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens)
