"""Cross-attention to encoded passages, three exact strategies behind one function. README.md has the mathematics.

| file | |
|---|---|
| naive.py | the definition |
| project.py | keys and values made from Φ, used, dropped |
| cached.py | keys and values kept |
| latent.py, triton.py | attention to Φ itself |
| planner.py | which strategy is cheapest |
| lse.py | log-sum-exp and share of each passage |
| int8.py | Φ in int8 |
| splits.py, matmul.py | how triton.py divides the tokens; a matrix product |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ragx_kernels.cross_attention.cached import attend_cached
from ragx_kernels.cross_attention.int8 import dequantize, quantize
from ragx_kernels.cross_attention.latent import attend_latent
from ragx_kernels.cross_attention.lse import as_offsets, shares
from ragx_kernels.cross_attention.planner import AttentionStrategy, DeviceProfile, Shape, choose, device_profile
from ragx_kernels.cross_attention.project import attend_projected, project_keys_values

__all__ = [
    "AttentionStrategy",
    "DeviceProfile",
    "Shape",
    "choose",
    "cross_attention",
    "dequantize",
    "device_profile",
    "project_keys_values",
    "quantize",
    "shares",
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
        strategy: how; `auto` is `cached` where keys and values are given, else the cheaper of the others by `choose`.
        keys_values: what `project_keys_values` returned for this Φ and these weights; `cached` needs it.
        phi_scale: (B, M), what a row of int8 Φ is multiplied with.
        mask: (B, M), true where a token may be attended to; None: everywhere.
        offsets: to get log-sum-exps: for each question the K+1 ascending token positions, from 0 on, at which passages
            begin and the last one ends. Tokens beyond belong to no passage.
        scale: of the scores; None: 1/√D.

    Returns:
        output (B, H, N, D), zeros where a question has nothing to attend to; and with `offsets` the log-sum-exp of the
        scores of each passage (B, H, N, K), −∞ for one without an unmasked token, else None.

    Raises:
        ValueError: `strategy` is `cached` without `keys_values`, or the offsets do not fit.
    """
    batch, head_dim = query.shape[0], query.shape[3]
    rows = None if offsets is None else as_offsets(offsets, batch, phi.shape[1])
    if phi.shape[1] == 0:
        empty = None if rows is None else query.new_full((*query.shape[:3], len(rows[0]) - 1), -torch.inf).float()
        return torch.zeros_like(query), empty
    if strategy == "auto":
        strategy = "cached" if keys_values is not None else _cheaper(query, phi, key_weight)
    nothing = None
    if mask is not None:  # a softmax over nothing is undefined: attend to anything and forget it
        nothing = ~mask.any(dim=1)  # (B)
        mask = mask | nothing[:, None]
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
    if nothing is not None:
        output = output.masked_fill(nothing[:, None, None, None], 0.0)
        lse = None if lse is None else lse.masked_fill(nothing[:, None, None, None], -torch.inf)
    return output, lse


def _cheaper(query: Tensor, phi: Tensor, key_weight: Tensor) -> AttentionStrategy:
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
