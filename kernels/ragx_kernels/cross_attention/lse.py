"""How much of the attention each passage receives: the log-sum-exp of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

Offsets = tuple[tuple[int, ...], ...]
"""For each question K+1 ascending token positions: passage k starts at offset k and ends before offset k + 1."""


def as_offsets(offsets: Sequence[Sequence[int]] | Tensor, batch: int, tokens: int) -> Offsets:
    """Check offsets and make them hashable; empty passages pad questions with fewer passages than others.

    Raises:
        ValueError: there is not one row per question, or a row does not ascend from 0 to at most M.
    """
    if isinstance(offsets, Tensor):
        offsets = offsets.tolist()
    if len(offsets) != batch:
        raise ValueError(f"offsets must have one row per question ({batch}), got {len(offsets)}")
    longest = max(len(row) for row in offsets)
    rows = []
    for row in offsets:
        if not row or row[0] != 0 or row[-1] > tokens or any(a > b for a, b in pairwise(row)):
            raise ValueError(f"offsets must ascend from 0 to at most M={tokens}, got {list(row)}")
        rows.append((*row, *(row[-1],) * (longest - len(row))))
    return tuple(rows)


def passages_lse(scores: Tensor, offsets: Offsets) -> Tensor:
    """Log-sum-exp of each passage's scores: (B, ..., M) -> (B, ..., K) in at least float32."""
    return torch.stack([_question_lse(rows, starts) for rows, starts in zip(scores, offsets, strict=True)])


def attention_shares(lse: Tensor) -> Tensor:
    """Log-sum-exps (..., K) -> each passage's share of the attention (..., K); sums to 1, or to 0 without tokens."""
    return lse.softmax(dim=-1).nan_to_num(nan=0.0)


def _question_lse(scores: Tensor, starts: tuple[int, ...]) -> Tensor:
    """(..., M) -> (..., K)."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if starts[-1] == 0:
        return scores.new_full((*scores.shape[:-1], len(starts) - 1), -torch.inf)
    columns, inside = _columns(starts, scores.device)  # (K, L)
    by_passage = scores.index_select(-1, columns.flatten()).unflatten(-1, columns.shape)  # (..., K, L)
    lse: Tensor = by_passage.masked_fill(~inside, -torch.inf).logsumexp(dim=-1)
    return lse


@lru_cache(maxsize=64)  # all layers need the same columns at every step
def _columns(starts: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Each passage's token positions (K, L), padded to the longest passage, and a mask that is true for real tokens."""
    bounds = torch.tensor(starts, device=device)
    lengths = bounds.diff()
    steps = torch.arange(int(lengths.max()), device=device)
    columns = bounds[:-1, None] + steps
    return columns.clamp_max(starts[-1] - 1), steps < lengths[:, None]
