"""Losses over a large vocabulary, from hidden states and the output matrix, a block of rows at a time.

Full logits are (rows, V): for a sequence of 4,096 tokens and V = 32,000 half a gigabyte in fp32, and as much again for
their gradient. Here only the logits of `ROWS` tokens exist at a time. The forward pass computes the gradients from them
too, so that they are neither kept nor recomputed.

Every loss is a sum; the caller divides by the number of predictions of the whole step.
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
"""Summed losses of a batch by name: `loss` is minimised; others are its parts, for the log."""


def next_token_loss(model: CepeModel, batch: Batch) -> Losses:
    """Summed cross-entropy of the labels, with the batch's passages in the encoder (paper 2.3)."""
    states, labels = labelled_states(model, batch), batch.labels[batch.labels != IGNORE]
    return {"loss": cross_entropy(states, model.lm_head.weight, labels)}


def labelled_states(model: CepeModel, batch: Batch) -> Tensor:
    """The last hidden states (rows, W) of the labelled tokens, with the batch's passages in the encoder."""
    mask, positions = (None, None) if batch.segments is None else attention(batch.segments)
    hidden: Tensor = model.model(
        input_ids=batch.ids,
        attention_mask=mask,
        position_ids=positions,
        context=encode(model, batch),
        use_cache=False,
    ).last_hidden_state  # (B, N, W)
    return hidden[batch.labels != IGNORE]


def encode(model: CepeModel, batch: Batch) -> Context:
    """Φ (B, M, E) of each row's passages, and which tokens attend to it. A passage of several rows is encoded once.

    Without any passage, a token is encoded and has no effect: several devices wait for one another in every layer and
    for the gradient of every weight, so all must run the same operations.
    """
    mask, reads, gain = batch.passage_mask, batch.reads, 1.0
    if not mask.any():
        mask, reads, gain = torch.ones_like(mask), ((0,),) * len(reads), 0.0
    encoded = model.encode(batch.passages[None], mask[None])
    passages = encoded.phi[0, : encoded.offsets[0][-1]].split([b - a for a, b in pairwise(encoded.offsets[0])])
    rows = [[passages[place] for place in row] for row in reads]
    empty = encoded.phi[0, :0]
    padded = pad([torch.cat([empty, *row]) for row in rows], [[len(each) for each in row] for row in rows])
    padded.gain, padded.attending = gain, batch.attending
    return model.ready(padded)


@torch.no_grad()
def top_probabilities(hidden: Tensor, weight: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The most likely tokens of a teacher and their probabilities, as `top_kl` needs them.

    Args:
        hidden: (rows, W), the teacher's.
        weight: (V, W), the output matrix.
        top: number of tokens, at most V.

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
        labels: (rows,); `IGNORE` adds nothing.

    Returns:
        A scalar in at least fp32, differentiable by `hidden` and `weight`.
    """
    loss: Tensor = _CrossEntropy.apply(hidden, weight, labels)  # type: ignore[no-untyped-call]
    return loss


def top_kl(hidden: Tensor, weight: Tensor, ids: Tensor, probabilities: Tensor) -> Tensor:
    """Σ p · (log p − log q) over the teacher's most likely tokens (paper 2.4, A.3).

    p and q are their probabilities for teacher and student, normalised over the whole vocabulary. Other tokens are
    ignored, so the loss is defined even if they have no probability; a token with p = 0 adds nothing.

    Args:
        hidden: (rows, W), the student's.
        weight: (V, W), the output matrix.
        ids: (rows, top), the teacher's most likely tokens.
        probabilities: (rows, top), the teacher's.

    Returns:
        A scalar in at least fp32, differentiable by `hidden` and `weight`.
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
            loss = -log_q.gather(1, index).masked_fill(~keep[:, None], 0).sum()
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
    """Sum the losses of `block(logits, rows)`, and save the gradients by `hidden` and `weight`."""
    needs_hidden, needs_weight = ctx.needs_input_grad[:2]
    at_hidden = torch.empty_like(hidden) if needs_hidden else None
    at_weight = torch.zeros_like(weight) if needs_weight else None
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
    return tuple(None if saved is None else saved * upstream.to(saved.dtype) for saved in ctx.saved_tensors)
