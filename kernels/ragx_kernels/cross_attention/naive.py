"""The definition of cross-attention to encoded passages: loops, one head at a time. Slow on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def cross_attention(
    query: Tensor,
    phi: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    *,
    phi_scale: Tensor | None = None,
    mask: Tensor | None = None,
    offsets: Sequence[Sequence[int]] | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(q · (Φ W_kᵀ)ᵀ · scale) · (Φ W_vᵀ) over the unmasked tokens of each question.

    Args:
        query: (B, H, N, D).
        phi: (B, M, E), floating point, or int8 with `phi_scale`.
        key_weight: (G·D, E); query head h reads group h // (H/G).
        value_weight: (G·D, E).
        phi_scale: (B, M), the factor of each row of int8 Φ.
        mask: (B, M), true for tokens that may be attended to; None: all.
        offsets: for each question K+1 ascending token positions; passage k starts at `offsets[b][k]` and ends before
            `offsets[b][k + 1]`. None: one passage.
        scale: factor of the scores; None: 1/√D.

    Returns:
        output (B, H, N, D), zeros if a question has nothing to attend to, and the log-sum-exp of each passage's scores
        (B, H, N, K), −∞ for a passage without unmasked tokens; both in float32, or in the type of `query` if that is
        wider.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    batch, heads, tokens, head_dim = query.shape
    groups = key_weight.shape[0] // head_dim
    rows = phi.to(dtype) if phi_scale is None else phi.to(dtype) * phi_scale[:, :, None].to(dtype)
    keep = torch.ones(phi.shape[:2], dtype=torch.bool, device=phi.device) if mask is None else mask
    scale = head_dim**-0.5 if scale is None else scale
    starts = [[0, phi.shape[1]]] * batch if offsets is None else offsets

    output = query.new_zeros(query.shape, dtype=dtype)
    lse = query.new_zeros((batch, heads, tokens, len(starts[0]) - 1), dtype=dtype)
    for b in range(batch):
        for h in range(heads):
            group = slice(h * groups // heads * head_dim, (h * groups // heads + 1) * head_dim)
            key = rows[b] @ key_weight[group].to(dtype).T  # (M, D)
            value = rows[b] @ value_weight[group].to(dtype).T  # (M, D)
            scores = (query[b, h].to(dtype) @ key.T * scale).masked_fill(~keep[b], -torch.inf)  # (N, M)
            output[b, h] = scores[:, keep[b]].softmax(dim=1) @ value[keep[b]]  # zeros from an empty sum
            for k, (start, stop) in enumerate(pairwise(starts[b])):
                lse[b, h, :, k] = scores[:, start:stop].logsumexp(dim=1)
    return output, lse
