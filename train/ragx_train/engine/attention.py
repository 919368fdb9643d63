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
from torch.nn.utils.rnn import pad_sequence

from ragx.cepe.cross_attention import CrossAttention
from ragx.cepe.model import CepeModel
from ragx_train.data.example import IGNORE, Batch


@contextmanager
def gold_shares(model: CepeModel, batch: Batch) -> Iterator[list[Tensor]]:
    """Within the context, a forward pass appends the gold passages' shares, (rows, H), for each cross-attention layer.

    A row is a labelled token of a question with a gold passage.
    """
    layers: list[Tensor] = []
    gold = [row for row, passages in enumerate(batch.gold) if any(passages)]
    if not gold:
        yield layers
        return
    positions, is_gold, kept = _watched(batch, gold)
    rows = torch.tensor(gold, device=positions.device)

    # The forward pass keeps no scores. Log-sum-exps from it would need the scores of all tokens, not just of labels.
    def watch(module: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        hidden, context = inputs
        states = module.q_proj(module.layernorm(hidden[rows[:, None], positions]))  # (R, N, W)
        lse = cross_attention(
            states.unflatten(-1, (-1, module.head_dim)).transpose(1, 2),  # (R, H, N, D)
            context.phi[rows],
            module.k_proj.weight,
            module.v_proj.weight,
            strategy="project",
            offsets=[context.offsets[row] for row in gold],
            scale=context.scale(module.head_dim),
        )[1]
        shares = attention_shares(lse) * is_gold[:, None]  # type: ignore[arg-type]  # not None: there are offsets
        shares = shares.sum(dim=-1).transpose(1, 2)  # (R, H, N, K) -> (R, N, H)
        layers.append(shares.flatten(0, 1).index_select(0, kept))  # (rows, H)

    hooks = [module.register_forward_hook(watch) for module in model.modules() if isinstance(module, CrossAttention)]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def _watched(batch: Batch, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The labelled tokens of questions with a gold passage, in `rows`, which are R.

    Returns:
        Their positions (R, N), padded; which passages are gold for each, (R, N, K); and where the R·N are not padding.
    """
    labels = batch.labels.cpu()
    segments = torch.ones_like(labels) if batch.segments is None else batch.segments.cpu()
    most = max(len(batch.reads[row]) for row in rows)
    positions, gold = [], []
    for row in rows:
        is_gold = torch.zeros(1 + len(batch.gold[row]), most)
        for question, places in enumerate(batch.gold[row], start=1):
            is_gold[question, places] = 1
        watched = ((labels[row] != IGNORE) & is_gold.any(dim=1)[segments[row]]).nonzero().squeeze(1)
        positions.append(watched)
        gold.append(is_gold[segments[row, watched]])
    lengths = torch.tensor([len(each) for each in positions])
    kept = (torch.arange(int(lengths.max())) < lengths[:, None]).flatten().nonzero().squeeze(1)
    device = batch.ids.device
    return pad_sequence(positions, True).to(device), pad_sequence(gold, True).to(device), kept.to(device)


def gold_attention_loss(gold: list[Tensor]) -> Tensor:
    """Σ over labelled tokens of −log of the gold passages' share, averaged over layers and heads.

    Averaging first leaves open which heads attend to them.
    """
    return -torch.stack(gold).mean(dim=(0, 2)).clamp_min(1e-6).log().sum()
