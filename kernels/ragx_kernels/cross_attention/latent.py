"""Latent attention: attend to Φ itself, with W_k absorbed into the query and W_v applied to the sum (see README.md)."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ragx_kernels.cross_attention.cached import attend
from ragx_kernels.cross_attention.int8 import dequantize
from ragx_kernels.cross_attention.lse import Offsets, passages_lse
from ragx_kernels.cross_attention.matmul import times_transposed

MAX_DECODING_ROWS = 128
"""Queries (of all heads) up to which reading Φ dominates a step."""
PART_ROWS = 8192
"""Rows of Φ read at once on a CPU: its last-level cache keeps them between their use as keys and as values."""


def attend_latent(
    query: Tensor,
    phi: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    *,
    scale: float,
    phi_scale: Tensor | None = None,
    mask: Tensor | None = None,
    offsets: Offsets | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As `attend_projected`, without computing keys or values.

    Returns:
        output (B, H, N, D), and with `offsets` the log-sum-exp of each passage (B, H, N, K), else None.
    """
    batch, heads, tokens, head_dim = query.shape
    groups = key_weight.shape[0] // head_dim
    # heads of a group are neighbours: (B, H, N, D) -> (B, G, H/G·N, D)
    rows = query.reshape(batch, groups, -1, head_dim)
    absorbed = rows @ key_weight.unflatten(0, (groups, head_dim))  # (B, G, H/G·N, E)
    absorbed = absorbed.flatten(1, 2)  # (B, H·N, E)
    attended, lse = _attend_to_phi(absorbed, phi, phi_scale, scale, mask, offsets)  # (B, H·N, E)
    attended = attended.unflatten(1, (groups, -1))  # (B, G, H/G·N, E)
    output = attended @ value_weight.unflatten(0, (groups, head_dim)).transpose(1, 2)  # (B, G, H/G·N, D)
    return output.reshape(query.shape), None if lse is None else lse.view(batch, heads, tokens, -1)


def _attend_to_phi(
    absorbed: Tensor,
    phi: Tensor,
    phi_scale: Tensor | None,
    scale: float,
    mask: Tensor | None,
    offsets: Offsets | None,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q̃ Φᵀ · scale) Φ: (B, X, E) -> (B, X, E), and log-sum-exps (B, X, K) or None."""
    if _runs_in_triton(absorbed, phi):
        from ragx_kernels.cross_attention.triton import attend_to_phi

        return attend_to_phi(absorbed, phi, phi_scale=phi_scale, scale=scale, mask=mask, offsets=offsets)
    if absorbed.shape[1] <= MAX_DECODING_ROWS and not _wants_grad(absorbed, phi):
        return _attend_in_parts(absorbed, phi, phi_scale, scale, mask, offsets)
    phi = phi.to(absorbed.dtype) if phi_scale is None else dequantize(phi, phi_scale, absorbed.dtype)
    shared = phi.unsqueeze(1)  # (B, 1, M, E): keys and values of a single group, shared by all heads
    output, lse = attend(absorbed.unsqueeze(1), shared, shared, scale=scale, mask=mask, offsets=offsets)
    return output.squeeze(1), None if lse is None else lse.squeeze(1)


def _attend_in_parts(
    absorbed: Tensor,
    phi: Tensor,
    phi_scale: Tensor | None,
    scale: float,
    mask: Tensor | None,
    offsets: Offsets | None,
) -> tuple[Tensor, Tensor | None]:
    """Read each part of Φ once, as keys and as values; the log-sum-exps weight the parts.

    An int8 row's scale multiplies its score and its weight, not its elements, so that widening to `absorbed`'s type is
    exact.
    """
    dtype = absorbed.dtype
    outputs, sums, scores = [], [], []
    for start in range(0, phi.shape[1], PART_ROWS):
        part = slice(start, start + PART_ROWS)
        rows = phi[:, part].to(dtype)  # (B, m, E)
        part_scores = times_transposed(absorbed, rows, scale)  # (B, X, m)
        if phi_scale is not None:
            part_scores = part_scores * phi_scale[:, None, part]
        if mask is not None:
            part_scores = part_scores.masked_fill(~mask[:, None, part], -torch.inf)
        weights = part_scores.softmax(dim=2)
        if mask is not None:
            weights = weights.nan_to_num(nan=0.0)  # the mask may cover a whole part
        if phi_scale is not None:
            weights = (weights * phi_scale[:, None, part]).to(dtype)
        outputs.append(times_transposed(weights, rows.transpose(1, 2)))  # (B, X, E)
        sums.append(part_scores.logsumexp(dim=2))  # (B, X)
        scores.append(part_scores)
    lse = None if offsets is None else passages_lse(torch.cat(scores, dim=2), offsets)
    if len(outputs) == 1:
        return outputs[0], lse
    share = torch.stack(sums).softmax(dim=0)  # (parts, B, X)
    return (torch.stack(outputs) * share[..., None]).sum(dim=0).to(dtype), lse


def _runs_in_triton(absorbed: Tensor, phi: Tensor) -> bool:
    if not absorbed.is_cuda or absorbed.shape[1] > MAX_DECODING_ROWS or _wants_grad(absorbed, phi) or not _has_triton():
        return False
    from ragx_kernels.cross_attention.triton import fits

    return fits(absorbed)


def _wants_grad(absorbed: Tensor, phi: Tensor) -> bool:
    return torch.is_grad_enabled() and (absorbed.requires_grad or phi.requires_grad)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
