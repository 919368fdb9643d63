"""Φ in int8, with one scale per row: quantizing one token never depends on the others."""

from __future__ import annotations

import torch
from torch import Tensor


def quantize(phi: Tensor) -> tuple[Tensor, Tensor]:
    """Φ (..., E) -> int8 (..., E) and the float32 scale of each row (...): the row's largest magnitude over 127."""
    scale = phi.float().abs().amax(dim=-1) / 127  # (...)
    safe = scale.clamp_min(torch.finfo(torch.float32).tiny)  # a row of zeros stays zeros
    return (phi.float() / safe[..., None]).round().to(torch.int8), scale


def dequantize(phi: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 (..., E) and its row scales (...) -> (..., E)."""
    return (phi * scale[..., None]).to(dtype)
