"""The decoder's self-attention in training: in blocks on CPU, where PyTorch's own kernel is slow."""

from __future__ import annotations

from typing import Any

import torch
from ragx_kernels.cross_attention.blocks import attend_in_blocks
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BLOCK_ATTENTION = "ragx_blocks"


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Query (B, H, N, D), key and value (B, G, N, D) -> (B, N, H, D); without a mask causal."""
    if query.device.type != "cpu":
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return attended
    if attention_mask is None:
        mask = torch.ones(1, query.shape[2], key.shape[2], dtype=torch.bool).tril()
    else:
        mask = attention_mask[:, 0]  # (B, N, N)
        mask = mask | ~mask.any(dim=2, keepdim=True)  # padding, which sees nothing, must not become undefined
    output = attend_in_blocks(query, key, value, scale=scaling or query.shape[3] ** -0.5, mask=mask)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(BLOCK_ATTENTION, _attention)
AttentionMaskInterface.register(BLOCK_ATTENTION, sdpa_mask)
