"""Cross-attention to encoded passages: three exact strategies behind one function. README.md has the mathematics.

| file | |
|---|---|
| naive.py | the definition |
| project.py | project keys and values from Φ for one call |
| cached.py | attend to cached keys and values |
| blocks.py | attend with gradients on CPU, also to a text itself |
| latent.py, triton.py | attend to Φ itself |
| planner.py | choose the cheapest strategy |
| lse.py | log-sum-exp and attention share of each passage |
| int8.py | Φ in int8 |
| splits.py | how triton.py divides the tokens |
| matmul.py | the matrix product |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ragx_kernels.cross_attention.cached import attend_cached
from ragx_kernels.cross_attention.int8 import dequantize, quantize
from ragx_kernels.cross_attention.latent import attend_latent
from ragx_kernels.cross_attention.lse import as_offsets, attention_shares
from ragx_kernels.cross_attention.planner import AttentionStrategy, DeviceProfile, Shape, choose, device_profile
from ragx_kernels.cross_attention.project import attend_projected, project_keys_values

__all__ = [
    "AttentionStrategy",
    "DeviceProfile",
    "Shape",
    "attention_shares",
    "choose",
    "cross_attention",
    "dequantize",
    "device_profile",
    "project_keys_values",
    "quantize",
]


def cross_attention(
    query: Tensor,
    phi: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    *,
    strategy: AttentionStrategy | Literal["auto"] = "auto",
    keys_values: tuple[Tensor, Tensor] | None = None,
    phi_scale: Tensor | None = None,
    mask: Tensor | None = None,
    offsets: Sequence[Sequence[int]] | Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q · (Φ W_kᵀ)ᵀ · scale) · (Φ W_vᵀ); naive.py defines it.

    Args:
        query: (B, H, N, D).
        phi: (B, M, E), floating point, or int8 with `phi_scale`.
        key_weight: (G·D, E); query head h reads group h // (H/G).
        value_weight: (G·D, E).
        strategy: `auto` is `cached` if `keys_values` are given, else the cheaper of the others by `choose`.
        keys_values: result of `project_keys_values` for this Φ and these weights; required by `cached`.
        phi_scale: (B, M), the factor of each row of int8 Φ.
        mask: (B, M), true for tokens that may be attended to; None: all.
        offsets: returns log-sum-exps as well: for each question K+1 ascending token positions from 0, the starts of the
            passages and the end of the last one. Tokens after it belong to no passage.
        scale: factor of the scores; None: 1/√D.

    Returns:
        output (B, H, N, D), zeros if a question has nothing to attend to; and, with `offsets`, the log-sum-exp of each
        passage's scores (B, H, N, K), −∞ for a passage without unmasked tokens, else None.

    Raises:
        ValueError: `strategy` is `cached` without `keys_values`, or the offsets do not fit.
    """
    batch, head_dim = query.shape[0], query.shape[3]
    rows = None if offsets is None else as_offsets(offsets, batch, phi.shape[1])
    if phi.shape[1] == 0:
        empty = None if rows is None else query.new_full((*query.shape[:3], len(rows[0]) - 1), -torch.inf).float()
        return torch.zeros_like(query), empty
    if strategy == "auto":
        strategy = "cached" if keys_values is not None else _cheapest(query, phi, key_weight)
    empty_rows = None
    if mask is not None:  # a softmax over nothing is undefined: attend to all tokens and discard the result
        empty_rows = ~mask.any(dim=1)  # (B)
        mask = mask | empty_rows[:, None]
    scale = head_dim**-0.5 if scale is None else scale
    if strategy == "cached":
        if keys_values is None:
            raise ValueError("strategy='cached' needs keys_values")
        output, lse = attend_cached(query, *keys_values, scale=scale, mask=mask, offsets=rows)
    else:
        attend = attend_projected if strategy == "project" else attend_latent
        output, lse = attend(
            query, phi, key_weight, value_weight, scale=scale, phi_scale=phi_scale, mask=mask, offsets=rows
        )
    if empty_rows is not None:
        output = output.masked_fill(empty_rows[:, None, None, None], 0.0)
        lse = None if lse is None else lse.masked_fill(empty_rows[:, None, None, None], -torch.inf)
    return output, lse


def _cheapest(query: Tensor, phi: Tensor, key_weight: Tensor) -> AttentionStrategy:
    batch, heads, tokens, head_dim = query.shape
    shape = Shape(
        queries=tokens,
        tokens=batch * phi.shape[1],
        heads=heads,
        kv_heads=key_weight.shape[0] // head_dim,
        head_dim=head_dim,
        encoder_width=phi.shape[2],
        layers=1,
        itemsize=query.element_size(),
        phi_itemsize=phi.element_size(),
        on_gpu=query.is_cuda,
    )
    return choose(shape, DeviceProfile.typical(query.device.type), memory=0)
