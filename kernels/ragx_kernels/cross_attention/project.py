"""Re-projection for training and prefill: K = Φ W_kᵀ and V = Φ W_vᵀ are computed, used once and discarded."""

from __future__ import annotations

from torch import Tensor

from ragx_kernels.cross_attention.cached import attend_cached
from ragx_kernels.cross_attention.int8 import dequantize
from ragx_kernels.cross_attention.lse import Offsets
from ragx_kernels.cross_attention.matmul import times_transposed


def project_keys_values(
    phi: Tensor, key_weight: Tensor, value_weight: Tensor, *, head_dim: int, phi_scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Keys and values of one layer.

    Args:
        phi: (B, M, E), floating point, or int8 with `phi_scale` (B, M).
        key_weight: (G·D, E).
        value_weight: (G·D, E).
        head_dim: D.
        phi_scale: (B, M).

    Returns:
        K and V (B, G, M, D) in the type of the weights. On CPU, V is stored as (B, G, D, M), so that both products of
        attention read adjacent elements.
    """
    dtype = key_weight.dtype
    phi = phi.to(dtype) if phi_scale is None else dequantize(phi, phi_scale, dtype)
    batch = phi.shape[0]
    heads = (-1, head_dim)
    keys = times_transposed(phi, key_weight.expand(batch, -1, -1)).unflatten(2, heads)  # (B, M, G, D)
    values = times_transposed(value_weight.expand(batch, -1, -1), phi).unflatten(1, heads)  # (B, G, D, M)
    values = values.transpose(2, 3)  # (B, G, M, D)
    return keys.transpose(1, 2).contiguous(), values if phi.device.type == "cpu" else values.contiguous()


def attend_projected(
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
    """As `attend_cached`, with keys and values projected from Φ (B, M, E) for this call."""
    keys, values = project_keys_values(phi, key_weight, value_weight, head_dim=query.shape[3], phi_scale=phi_scale)
    return attend_cached(query, keys, values, scale=scale, mask=mask, offsets=offsets)
