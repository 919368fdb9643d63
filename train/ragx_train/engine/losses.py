"""Losses over a large vocabulary, from hidden states and the output matrix, a block of rows at a time.

Full logits are (rows, V): for a sequence of 4,096 tokens and V = 32,000 half a gigabyte in fp32, and as much again for
their gradient. Here the logits of `ROWS` tokens are there at once, and the gradient with respect to the hidden states
is computed with them in the forward pass, so that they need be neither kept nor computed again.

Every loss is a sum; whoever calls divides by the number of predictions of the whole step.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ragx.cepe.context import Context, pad
from ragx.cepe.model import CepeModel
from ragx_train.data.example import IGNORE, Batch, attention

ROWS = 256
Losses = dict[str, Tensor]
"""Summed losses of a batch by name: `loss` is the one to be made small, others are its parts, for the log."""


def next_token_loss(model: CepeModel, batch: Batch) -> Losses:
    """Cross-entropy of the labelled tokens, summed, with the batch's passages in the encoder (paper 2.3)."""
    states, labels = labelled_states(model, batch), batch.labels[batch.labels != IGNORE]
    return {"loss": cross_entropy(states, model.lm_head.weight, labels)}


def labelled_states(model: CepeModel, batch: Batch) -> Tensor:
    """The last hidden states (rows, W) of the tokens that have a label, with the batch's passages in the encoder."""
    mask, positions = (None, None) if batch.segments is None else attention(batch.segments)
    hidden: Tensor = model.model(
        input_ids=batch.ids,
        attention_mask=mask,
        position_ids=positions,
        context=read(model, batch),
        use_cache=False,
    ).last_hidden_state  # (B, N, W)
    return hidden[batch.labels != IGNORE]


def read(model: CepeModel, batch: Batch) -> Context:
    """Each row's passages, encoded: Φ (B, M, E). A passage that several rows read is encoded once.

    Where there is nothing to read, a token is read to no effect: with several devices, each waits for the others in
    every layer and for every weight's gradient, so all must go the same way.
    """
    mask, reads, gain = batch.passage_mask, batch.reads, 1.0
    if not mask.any():
        mask, reads, gain = torch.ones_like(mask), ((0,),) * len(reads), 0.0
    encoded = model.encode(batch.passages[None], mask[None])
    passages = encoded.phi[0, : encoded.offsets[0][-1]].split([b - a for a, b in pairwise(encoded.offsets[0])])
    rows = [[passages[place] for place in row] for row in reads]
    nothing = encoded.phi[0, :0]
    padded = pad([torch.cat([nothing, *row]) for row in rows], [[len(each) for each in row] for row in rows])
    padded.gain = gain
    return model.ready(padded)


@torch.no_grad()
def top_probabilities(hidden: Tensor, weight: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The likeliest tokens and their shares of the whole vocabulary, as `top_kl` takes them from a teacher.

    Args:
        hidden: (rows, W), the teacher's.
        weight: (V, W).
        top: how many; all V when there are fewer.

    Returns:
        Token ids, (rows, top), and probabilities in at least fp32, (rows, top).
    """
    top = min(top, len(weight))
    dtype = torch.promote_types(weight.dtype, torch.float32)
    ids = torch.empty(len(hidden), top, dtype=torch.long, device=hidden.device)
    probabilities = torch.empty(len(hidden), top, dtype=dtype, device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            logits = (hidden[rows].to(weight.dtype) @ weight.T).to(dtype)  # (rows, V)
            probabilities[rows], ids[rows] = logits.softmax(dim=-1).topk(top, dim=-1)
    return ids, probabilities


def cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Σ −log softmax(hidden · weightᵀ)[label].

    Args:
        hidden: (rows, W).
        weight: (V, W), the output matrix.
        labels: (rows,); those that are `IGNORE` add nothing.

    Returns:
        A scalar in at least fp32, with gradients to `hidden` and `weight` where they want one.
    """
    loss: Tensor = _CrossEntropy.apply(hidden, weight, labels)  # type: ignore[no-untyped-call]
    return loss


def top_kl(hidden: Tensor, weight: Tensor, ids: Tensor, probabilities: Tensor) -> Tensor:
    """Σ p · (log p − log q) over the teacher's likeliest tokens (paper 2.4, A.3).

    p are the teacher's probabilities of them and q the student's, both as shares of the whole vocabulary. What mass is
    left to other tokens does not enter, so the loss is defined where none is; a token with p = 0 adds nothing.

    Args:
        hidden: (rows, W), the student's.
        weight: (V, W).
        ids: (rows, top), the teacher's likeliest tokens.
        probabilities: (rows, top), the teacher's.

    Returns:
        A scalar in at least fp32, with gradients to `hidden` and `weight` where they want one.
    """
    loss: Tensor = _TopKl.apply(hidden, weight, ids, probabilities)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        def block(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            target = labels[rows]
            keep = target != IGNORE
            index = target.where(keep, 0)[:, None]
            log_q = F.log_softmax(logits, dim=-1)
            loss = -log_q.gather(1, index)[keep].sum()
            gradient = log_q.exp_().scatter_add_(1, index, -torch.ones_like(index, dtype=log_q.dtype))
            return loss, gradient * keep[:, None]

        return _in_blocks(ctx, hidden, weight, block)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *_scaled(ctx, upstream), None


class _TopKl(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, probabilities: Tensor) -> Tensor:
        def block(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            p, index = probabilities[rows].to(logits.dtype), ids[rows].long()
            log_q = F.log_softmax(logits, dim=-1)
            loss = (torch.xlogy(p, p) - p * log_q.gather(1, index)).sum()
            gradient = log_q.exp_().mul_(p.sum(dim=1, keepdim=True)).scatter_add_(1, index, -p)
            return loss, gradient

        return _in_blocks(ctx, hidden, weight, block)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *_scaled(ctx, upstream), None, None


def _in_blocks(ctx: Any, hidden: Tensor, weight: Tensor, block: Any) -> Tensor:
    """Sum `block(logits, rows)`'s losses and turn its gradients at the logits into those at `hidden` and `weight`."""
    wants_hidden, wants_weight = ctx.needs_input_grad[:2]
    at_hidden = torch.empty_like(hidden) if wants_hidden else None
    at_weight = torch.zeros_like(weight) if wants_weight else None
    dtype = torch.promote_types(weight.dtype, torch.float32)
    total = torch.zeros((), dtype=dtype, device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            states = hidden[rows].to(weight.dtype)
            loss, gradient = block((states @ weight.T).to(dtype), rows)  # (rows, V)
            total += loss
            gradient = gradient.to(weight.dtype)
            if at_hidden is not None:
                at_hidden[rows] = gradient @ weight
            if at_weight is not None:
                at_weight += gradient.T @ states
    ctx.save_for_backward(at_hidden, at_weight)
    return total


def _scaled(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(None if found is None else found * upstream.to(found.dtype) for found in ctx.saved_tensors)
