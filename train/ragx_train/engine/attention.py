"""The share of the cross-attention that gold passages receive, as a loss.

Training knows which passages a question is about. That the decoder should attend to them is a far stronger signal than
the tokens of the answer alone, and it makes a passage's share of the attention indicate where an answer was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ragx_kernels.cross_attention import attention_shares, cross_attention
from torch import Tensor

from ragx.cepe.cross_attention import CrossAttention
from ragx.cepe.model import CepeModel
from ragx_train.data.example import IGNORE, Batch


@contextmanager
def gold_shares(model: CepeModel, batch: Batch) -> Iterator[list[Tensor]]:
    """Within the context, a forward pass appends the gold passages' shares, (rows, H), for each cross-attention layer.

    A row is a labelled token of a question with a gold passage.
    """
    segments = torch.ones_like(batch.ids) if batch.segments is None else batch.segments
    watched = torch.zeros_like(batch.ids, dtype=torch.bool)
    gold = {}  # (rows, K) of each example
    for row, passages in enumerate(batch.gold):
        if not any(passages):
            continue
        is_gold = torch.zeros(1 + len(passages), len(batch.reads[row]), device=batch.ids.device)
        for question, places in enumerate(passages, start=1):
            is_gold[question, places] = 1
        watched[row] = (batch.labels[row] != IGNORE) & is_gold.any(dim=1)[segments[row]]
        gold[row] = is_gold[segments[row, watched[row]]]
    layers: list[Tensor] = []

    # The forward pass keeps no scores. Log-sum-exps from it would need the scores of all tokens, not just of labels.
    def watch(module: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        hidden, context = inputs
        of_examples = []
        for row, is_gold in gold.items():
            states = module.q_proj(module.layernorm(hidden[row, watched[row]]))
            query = states.unflatten(-1, (-1, module.head_dim)).transpose(0, 1)  # (H, rows, D)
            lse = cross_attention(
                query[None],
                context.phi[row : row + 1],
                module.k_proj.weight,
                module.v_proj.weight,
                strategy="project",
                offsets=[context.offsets[row]],
                scale=context.scale(module.head_dim),
            )[1]
            of_passages = attention_shares(lse[0])  # type: ignore[index]  # not None: there are offsets
            of_examples.append((of_passages * is_gold).sum(dim=-1).T)  # (H, rows, K) -> (rows, H)
        if of_examples:
            layers.append(torch.cat(of_examples))

    hooks = [module.register_forward_hook(watch) for module in model.modules() if isinstance(module, CrossAttention)]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def gold_attention_loss(gold: list[Tensor]) -> Tensor:
    """Σ over labelled tokens of −log of the gold passages' share, averaged over layers and heads.

    Averaging first leaves open which heads attend to them.
    """
    return -torch.stack(gold).mean(dim=(0, 2)).clamp_min(1e-6).log().sum()
