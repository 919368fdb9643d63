"""The module a decoder layer gains: attention from the decoder's tokens to the encoded passages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ragx.cepe.context import Context, KeyValue


class CrossAttention(nn.Module):
    """o_proj(softmax(q_proj(norm(x)) · k_proj(Φ)ᵀ / √D) · v_proj(Φ)); design of paper section 2.1.

    Neither queries nor keys carry positions. Attribute names are those of the authors' checkpoints.
    """

    def __init__(
        self,
        layer: int,
        *,
        norm: nn.Module,
        decoder_width: int,
        encoder_width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
    ) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, head_dim
        self.q_proj = nn.Linear(decoder_width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(encoder_width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(encoder_width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, decoder_width, bias=False)
        self.layernorm = norm

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """What to add to the residual stream: (B, N, W) -> (B, N, W); zeros where a question has no passage."""
        keys_values = context.keys_values(self.layer, self._project)
        if keys_values is None:
            return torch.zeros_like(hidden)
        key, value = keys_values  # (B, G, M, D)
        query = self._heads(self.q_proj(self.layernorm(hidden)))  # (B, H, N, D)
        mask = None if context.mask is None else context.mask[:, None, None, :]  # (B, 1, 1, M)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
        output: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))  # (B, N, W)
        if context.mask is not None:
            # a softmax over nothing is undefined: a question without passages gets exactly nothing
            output = output.masked_fill(~context.mask.any(dim=1)[:, None, None], 0.0)
        return output

    def _project(self, phi: Tensor) -> KeyValue:
        # A zero output projection (a layer not yet trained) adds exactly nothing, whatever the keys and values.
        if phi.shape[1] == 0 or not (torch.is_grad_enabled() or self.o_proj.weight.any()):
            return None
        return self._heads(self.k_proj(phi)), self._heads(self.v_proj(phi))

    def _heads(self, states: Tensor) -> Tensor:
        """(B, X, heads·D) -> (B, heads, X, D)."""
        heads: Tensor = states.unflatten(-1, (-1, self.head_dim))
        return heads.transpose(1, 2)
