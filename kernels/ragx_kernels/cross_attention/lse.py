"""How much of the attention each passage receives: a log-sum-exp of scores per passage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

Offsets = tuple[tuple[int, ...], ...]
"""K+1 ascending token positions a question: passage k is the tokens from offset k up to offset k + 1."""


def as_offsets(offsets: Sequence[Sequence[int]] | Tensor, batch: int, tokens: int) -> Offsets:
    """Checked and hashable; questions with fewer passages than others gain empty ones at the end.

    Raises:
        ValueError: not one ascending row from 0 to at most M a question.
    """
    if isinstance(offsets, Tensor):
        offsets = offsets.tolist()
    if len(offsets) != batch:
        raise ValueError(f"offsets must hold one row for each of {batch} questions, not {len(offsets)}")
    longest = max(len(row) for row in offsets)
    rows = []
    for row in offsets:
        if not row or row[0] != 0 or row[-1] > tokens or any(a > b for a, b in pairwise(row)):
            raise ValueError(f"offsets must ascend from 0 to at most M={tokens} in each row, not {list(row)}")
        rows.append((*row, *(row[-1],) * (longest - len(row))))
    return tuple(rows)


def passages_lse(scores: Tensor, offsets: Offsets) -> Tensor:
    """Log-sum-exp of each passage's scores: (B, ..., M) -> (B, ..., K) in at least float32."""
    return torch.stack([_of_question(rows, starts) for rows, starts in zip(scores, offsets, strict=True)])


def shares(lse: Tensor) -> Tensor:
    """Each passage's share of a query's attention: (..., K) -> (..., K), which sums to 1, or to 0 without passages."""
    return lse.softmax(dim=-1).nan_to_num(nan=0.0)


def _of_question(scores: Tensor, starts: tuple[int, ...]) -> Tensor:
    """(..., M) -> (..., K)."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if starts[-1] == 0:
        return scores.new_full((*scores.shape[:-1], len(starts) - 1), -torch.inf)
    columns, inside = _columns(starts, scores.device)  # (K, L)
    by_passage = scores.index_select(-1, columns.flatten()).unflatten(-1, columns.shape)  # (..., K, L)
    lse: Tensor = by_passage.masked_fill(~inside, -torch.inf).logsumexp(dim=-1)
    return lse


@lru_cache(maxsize=64)  # the layers of a model ask for the same rows at every step
def _columns(starts: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token positions of the passages side by side (K, L), L the longest, and which of them are theirs."""
    bounds = torch.tensor(starts, device=device)
    lengths = bounds.diff()
    steps = torch.arange(int(lengths.max()), device=device)
    columns = bounds[:-1, None] + steps
    return columns.clamp_max(starts[-1] - 1), steps < lengths[:, None]
