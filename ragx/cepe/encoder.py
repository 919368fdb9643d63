"""The passage encoder: decoder layers with bidirectional attention, which encode each passage on its own.

Passages are packed: a batch runs as one row of T tokens without padding, and attention stays within each passage.
Positions start at 0 in every passage (paper section 2.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from ragx_kernels.cross_attention.blocks import attend_in_blocks
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModel, PreTrainedConfig

PACKED_ATTENTION = "ragx_packed_bidirectional"
GPU_MULTIPLE = 64
"""On a GPU, attention pads passages to a multiple of this: a kernel for each length would take longer."""


class Group(NamedTuple):
    """Passages that attention runs as one batch."""

    tokens: Tensor
    """(P, L), their token indices; padding repeats a passage's last token."""
    is_token: Tensor | None
    """(P, L), false at padding; None: there is none."""


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

    def forward(self, embeddings: Tensor, positions: Tensor, lengths: list[int], multiple: int | None = None) -> Tensor:
        """Encode packed passages.

        Args:
            embeddings: (1, T, E), the passages one after another.
            positions: (1, T), each token's position in its passage.
            lengths: tokens of each passage; they sum to T.
            multiple: attention pads passages to a multiple of this length; None: the fastest on the device.

        Returns:
            Last hidden states, (1, T, E).
        """
        hidden = embeddings
        rotary = self.rotary_emb(hidden, position_ids=positions)
        if multiple is None:
            multiple = GPU_MULTIPLE if embeddings.is_cuda else 1
        groups, place = _groups(lengths, multiple, embeddings.device)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary, passage_groups=groups, place=place)
        normed: Tensor = self.norm(hidden)
        return normed


def _groups(lengths: list[int], multiple: int, device: torch.device) -> tuple[list[Group], Tensor]:
    """The passages of each padded length as a group, and the index (T,) of every token in the groups' joined rows."""
    of_width: dict[int, list[tuple[int, int]]] = {}
    offset = 0
    for length in lengths:
        if length:
            of_width.setdefault(-(-length // multiple) * multiple, []).append((offset, length))
        offset += length
    place = torch.empty(offset, dtype=torch.long)
    groups = []
    rows = 0
    for width, passages in of_width.items():
        starts, sizes = torch.tensor(passages)[:, :, None].unbind(dim=1)  # (P, 1)
        columns = torch.arange(width)
        tokens, is_token = starts + columns.minimum(sizes - 1), columns < sizes  # (P, L)
        place[tokens[is_token]] = rows + is_token.flatten().nonzero().squeeze(1)
        rows += tokens.numel()
        groups.append(Group(tokens.to(device), None if bool(is_token.all()) else is_token.to(device)))
    return groups, place.to(device)


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    passage_groups: list[Group],
    place: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Bidirectional attention within each passage: query (1, H, T, D), key and value (1, G, T, D) -> (1, T, H, D).

    Passages of a group run as one batch.
    """
    scale = scaling or query.shape[3] ** -0.5
    rows = []
    for tokens, is_token in passage_groups:
        q, k, v = (states[0][:, tokens].transpose(0, 1) for states in (query, key, value))  # (P, heads, L, D)
        rows.append(_attend(q, k, v, is_token, scale).transpose(1, 2).flatten(0, 1))  # (P·L, H, D)
    output = torch.cat(rows).index_select(0, place)  # (T, H, D)
    return output.unsqueeze(0), None


def _attend(query: Tensor, key: Tensor, value: Tensor, is_token: Tensor | None, scale: float) -> Tensor:
    """Query (P, H, L, D), key and value (P, G, L, D) -> (P, H, L, D)."""
    if query.device.type == "cpu" and torch.is_grad_enabled():
        return attend_in_blocks(query, key, value, scale=scale, mask=None if is_token is None else is_token[:, None])
    if is_token is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale, enable_gqa=True)
    # kernels for masks know no groups: the heads of a group, which are neighbours, become rows (P, G, H/G·L, D)
    rows = query.reshape(len(query), key.shape[1], -1, query.shape[3])
    mask = is_token[:, None, None]  # (P, 1, 1, L)
    return F.scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scale).reshape(query.shape)


AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
