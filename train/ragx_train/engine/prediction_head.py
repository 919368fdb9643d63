"""What predicts masked tokens from the encoder's states, in training alone: readers do not have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PredictionHead(nn.Module):
    """A dense layer, SiLU and norm before the output matrix, as in the authors' encoder."""

    def __init__(self, width: int, epsilon: float, seed: int) -> None:
        """`width` is E; weights are random."""
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.RMSNorm(width, eps=epsilon)
        nn.init.normal_(self.dense.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: Tensor) -> Tensor:
        """States (…, E)."""
        normed: Tensor = self.norm(nn.functional.silu(self.dense(states)))
        return normed
