"""How much of the cross-attention falls on the passages that hold the answer, as a loss.

Which passage a question is about is known in training. That the decoder is to look there is a far stronger hint than
the answer's tokens alone, and it makes each passage's share of the attention tell where an answer was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ragx.cepe.cross_attention import CrossAttention
from ragx.cepe.model import CepeModel
from ragx_train.data.example import IGNORE, Batch


@contextmanager
def watching_gold(model: CepeModel, batch: Batch) -> Iterator[list[Tensor]]:
    """While it is open, a forward pass adds for each cross-attention layer the gold passages' shares, (rows, H).

    A row is a labelled token. Rows whose passages are all gold have a share of 1.
    """
    labelled = batch.labels != IGNORE
    segments = torch.ones_like(batch.ids) if batch.segments is None else batch.segments
    shares: list[Tensor] = []

    def watch(module: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        hidden, context = inputs
        keys = module.k_proj(context.phi).unflatten(-1, (-1, module.head_dim))  # (B, M, G, D)
        found = []
        for row, starts in enumerate(context.offsets):
            gold = torch.zeros(len(batch.gold[row]), starts[-1], dtype=torch.bool, device=hidden.device)
            for question, places in enumerate(batch.gold[row]):
                for place in places:
                    gold[question, starts[place] : starts[place + 1]] = True
            gold = gold[segments[row, labelled[row]] - 1]  # (rows, M)
            query = module.q_proj(module.layernorm(hidden[row, labelled[row]]))
            grouped = query.unflatten(-1, (keys.shape[2], -1, module.head_dim))  # (rows, G, H/G, D)
            scores = torch.einsum("ngrd,mgd->ngrm", grouped, keys[row, : starts[-1]]).float()
            scores = scores.flatten(1, 2) * context.scale(module.head_dim)  # (rows, H, M)
            there = scores.masked_fill(~gold[:, None], float("-inf")).logsumexp(dim=-1)
            found.append((there - scores.logsumexp(dim=-1)).exp())
        shares.append(torch.cat(found))

    hooks = [module.register_forward_hook(watch) for module in model.modules() if isinstance(module, CrossAttention)]
    try:
        yield shares
    finally:
        for hook in hooks:
            hook.remove()


def gold_attention_loss(shares: list[Tensor]) -> Tensor:
    """Σ over labelled tokens of −log of the gold passages' share, averaged over layers and heads.

    The average leaves it to the heads which of them look there.
    """
    return -torch.stack(shares).mean(dim=(0, 2)).clamp_min(1e-6).log().sum()
