"""Which layers of a decoder have induction and previous-token heads: a reader starts best from these.

The decoder reads texts twice in a row. From a token's second occurrence, an induction head attends to the token after
the first one; a previous-token head attends to the token before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

NEAREST = 2
"""Encoder layers chosen by their previous-token heads; those before are the decoder's first."""


class LayerHeads(NamedTuple):
    """A layer's strongest heads: their share of attention on the right token, averaged over texts and tokens."""

    induction: float
    previous_token: float


def measure_heads(decoder: Path, ids: Tensor) -> list[LayerHeads]:
    """The strongest heads of each layer, on texts (B, L) of equal length."""
    model = AutoModelForCausalLM.from_pretrained(
        decoder, dtype=torch.bfloat16, attn_implementation="eager", local_files_only=True
    ).eval()
    length = ids.shape[1]
    second, later = torch.arange(length, 2 * length - 1), torch.arange(1, length)
    with torch.inference_mode():
        attentions = model.model(torch.cat([ids, ids], dim=1), output_attentions=True).attentions
    heads = []
    for weights in attentions:  # (B, H, 2·L, 2·L)
        induction = weights[:, :, second, second - length + 1].float().mean(dim=(0, 2)).max()
        previous = weights[:, :, later, later - 1].float().mean(dim=(0, 2)).max()
        heads.append(LayerHeads(float(induction), float(previous)))
    return heads


def choose_layers(heads: Sequence[LayerHeads], *, encoder: int, cross_attention: int) -> tuple[list[int], list[int]]:
    """Layers for the encoder and for cross-attention, ascending, at most as many as asked for.

    The encoder consists of the decoder's first layers and those with the strongest previous-token heads after them;
    cross-attention copies the layers with the strongest induction heads.
    """
    layers = range(len(heads))
    first = list(layers[: max(1, encoder - NEAREST)])
    rest = sorted(layers[len(first) :], key=lambda layer: -heads[layer].previous_token)
    by_induction = sorted(layers, key=lambda layer: -heads[layer].induction)
    return sorted([*first, *rest[: max(0, encoder - len(first))]]), sorted(by_induction[:cross_attention])
