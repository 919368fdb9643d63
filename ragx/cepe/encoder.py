"""The passage encoder: decoder layers with bidirectional attention, which encode each passage on its own.

Passages are packed: a batch runs as one row of T tokens without padding, and attention stays within each passage.
Positions start at 0 in every passage (paper section 2.1).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from ragx_kernels.cross_attention.blocks import attend_in_blocks
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModel, PreTrainedConfig

PACKED_ATTENTION = "ragx_packed_bidirectional"


class PassageEncoder(nn.Module):
    """A Llama-family stack without its causal mask; state-dict keys as in the authors' `encoder.*`.

    With `own_embeddings=False` the encoder shares the decoder's embeddings: the caller embeds the tokens.
    """

    def __init__(self, config: PreTrainedConfig, *, own_embeddings: bool = True) -> None:
        super().__init__()
        config._attn_implementation = PACKED_ATTENTION
        self.config = config
        stack = AutoModel.from_config(config, attn_implementation=PACKED_ATTENTION)
        self.embed_tokens = stack.embed_tokens if own_embeddings else None
        self.layers = stack.layers
        self.norm = stack.norm
        self.rotary_emb = stack.rotary_emb

    def forward(self, embeddings: Tensor, positions: Tensor, lengths: list[int]) -> Tensor:
        """Encode packed passages.

        Args:
            embeddings: (1, T, E), the passages one after another.
            positions: (1, T), each token's position in its passage.
            lengths: tokens of each passage; they sum to T.

        Returns:
            Last hidden states, (1, T, E).
        """
        hidden = embeddings
        rotary = self.rotary_emb(hidden, position_ids=positions)
        groups = _groups_of_equal_length(lengths, embeddings.device)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary, passage_groups=groups)
        normed: Tensor = self.norm(hidden)
        return normed


def _groups_of_equal_length(lengths: list[int], device: torch.device) -> list[Tensor]:
    """For each distinct length, the token indices (passages, length) of all passages of that length."""
    starts: dict[int, list[int]] = {}
    offset = 0
    for length in lengths:
        starts.setdefault(length, []).append(offset)
        offset += length
    return [
        torch.tensor(first, device=device)[:, None] + torch.arange(length, device=device)
        for length, first in starts.items()
        if length
    ]


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    passage_groups: list[Tensor],
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Bidirectional attention within each passage: query (1, H, T, D), key and value (1, G, T, D) -> (1, T, H, D).

    Passages of the same length run as one batch, without padding.
    """
    output = query.new_empty(query.shape[2], query.shape[1], value.shape[3])  # (T, H, D)
    for tokens in passage_groups:
        q, k, v = (states[0][:, tokens].transpose(0, 1) for states in (query, key, value))  # (passages, heads, L, D)
        if q.device.type == "cpu" and torch.is_grad_enabled():
            attended = attend_in_blocks(q, k, v, scale=scaling or q.shape[3] ** -0.5)
        else:
            attended = F.scaled_dot_product_attention(q, k, v, scale=scaling, enable_gqa=True)
        output[tokens] = attended.transpose(1, 2)  # (passages, L, H, D)
    return output.unsqueeze(0), None


AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
