"""Embeddings that a decoder reads before a prompt, as if they were those of tokens (Extensible Embedding)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Prefix:
    """What stands before a prompt; the prompt's positions follow."""

    embeddings: Tensor
    """(S, W)."""
    tokens: int
    """How many tokens they stand for."""
