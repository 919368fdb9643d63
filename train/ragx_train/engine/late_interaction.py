"""Late interaction in torch: a projection of a frozen encoder's states, its first values, and its loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ragx.retrieval.rerankers.late import Projection

FIRST_SCALE = 20.0
"""Of the scores of an untrained projection; most are between 0 and 1 before."""
FIRST_ORDER = 1.0


class LateInteraction(nn.Module):
    """`ragx.retrieval.rerankers.late`, with gradients."""

    def __init__(self, states: Tensor, dimension: int) -> None:
        """Start from the whitened principal components of states (M, E), which order passages well untrained."""
        super().__init__()
        mean = states.mean(0)
        variances, directions = torch.linalg.eigh((states - mean).T.cov())
        best = slice(-dimension, None)
        self.mean: Tensor
        self.register_buffer("mean", mean)
        self.matrix = nn.Parameter(directions[:, best] / variances[best].clamp_min(1e-6).sqrt())
        self.importance = nn.Parameter(torch.zeros_like(mean))
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())
        self.order = nn.Parameter(torch.tensor(FIRST_ORDER))

    def forward(self, question: Tensor, passages: Sequence[Tensor]) -> Tensor:
        """Scores (K,) of passages by their states (L, E) for a question by its states."""
        weights = ((question - self.mean) @ self.importance).softmax(0)  # (L,)
        similarity = self._unit(question) @ self._unit(torch.cat(list(passages))).T  # (L, M)
        best = [part.amax(1) for part in similarity.split([len(each) for each in passages], dim=1)]
        return self.scale.exp() * torch.stack(best) @ weights

    def projection(self) -> Projection:
        """What a reranker reads."""

        def array(tensor: Tensor) -> np.ndarray:
            values: np.ndarray = tensor.detach().numpy()
            return values

        scale, order = float(self.scale.detach().exp()), float(self.order.detach())
        return Projection(array(self.mean), array(self.matrix), array(self.importance), scale, order)

    def _unit(self, states: Tensor) -> Tensor:
        return normalize((states - self.mean) @ self.matrix, dim=1, eps=1e-6)


def listwise_loss(
    model: LateInteraction, question: Tensor, passages: Sequence[Tensor], places: Sequence[int]
) -> Tensor:
    """Cross-entropy of the first passage among all, in the order of the search too.

    `places` are theirs in what the search found, from 1.
    """
    scores = model(question, passages) - model.order * torch.tensor(places, dtype=torch.float32).log()
    loss: Tensor = -scores.log_softmax(0)[0]
    return loss
