"""The one matrix product of this op, x wᵀ, where PyTorch's default is slow."""

from __future__ import annotations

import torch
from torch import Tensor

ONEDNN_PRODUCTS = 4 << 20
"""Multiplications of one matrix product from which on oneDNN's overhead is worth it."""


def times_transposed(x: Tensor, weight: Tensor, scale: float = 1.0) -> Tensor:
    """scale · x wᵀ for every matrix of the batch: (P, X, C), (P, Y, C) -> (P, X, Y)."""
    if _wants_onednn(x, weight):
        # PyTorch sends float32 products to MKL, whose speed on an AMD CPU is half to a third of oneDNN's, except for
        # tiny ones. This operator is TorchInductor's route to oneDNN; it takes one matrix and has no gradient.
        linear = torch.ops.mkldnn._linear_pointwise
        products: list[Tensor] = [linear(a, b, None, "none", [], "") for a, b in zip(x * scale, weight, strict=True)]
        return products[0].unsqueeze(0) if len(products) == 1 else torch.stack(products)  # (P, X, Y)
    # The factor goes into the product, where it is applied before the result is rounded to 16 bits.
    if x.shape[0] == 1:  # on CPU a batch of one is slower than a matrix
        return torch.addmm(x.new_zeros(1), x[0], weight[0].t(), beta=0, alpha=scale).unsqueeze(0)
    return torch.baddbmm(x.new_zeros(1), x, weight.transpose(1, 2), beta=0, alpha=scale)


def _wants_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and x.shape[1] * x.shape[2] * weight.shape[1] >= ONEDNN_PRODUCTS
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
    )
