"""Losses in blocks of rows against the plain computation with all logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_train.data.example import IGNORE
from ragx_train.engine.losses import ROWS, cross_entropy, top_kl
from torch import Tensor

SHAPES = st.tuples(st.integers(1, 2 * ROWS + 1), st.integers(1, 9), st.integers(2, 40), st.integers(0, 2**16))


def inputs(rows: int, width: int, vocabulary: int, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=random, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=random, dtype=torch.float64, requires_grad=True)
    return hidden, weight, random


def plain_kl(hidden: Tensor, weight: Tensor, ids: Tensor, probabilities: Tensor) -> Tensor:
    log_q = F.log_softmax(hidden @ weight.T, dim=-1).gather(1, ids)
    return (probabilities * (probabilities.log() - log_q)).sum()


def assert_same(ours: Tensor, plain: Tensor, *of: Tensor) -> None:
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(torch.autograd.grad(3 * ours, of), torch.autograd.grad(3 * plain, of), strict=True):
        torch.testing.assert_close(mine, theirs)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.floats(0, 1))
def test_cross_entropy_is_the_plain_one(shape: tuple[int, int, int, int], ignored: float) -> None:
    hidden, weight, random = inputs(*shape)
    labels = torch.randint(shape[2], (shape[0],), generator=random)
    labels[torch.rand(shape[0], generator=random) < ignored] = IGNORE
    plain = F.cross_entropy(hidden @ weight.T, labels, ignore_index=IGNORE, reduction="sum")
    assert_same(cross_entropy(hidden, weight, labels), plain, hidden, weight)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(1, 50))
def test_top_kl_is_the_plain_one(shape: tuple[int, int, int, int], top: int) -> None:
    hidden, weight, random = inputs(*shape)
    teacher = torch.randn(shape[0], shape[2], generator=random, dtype=torch.float64).mul(3).softmax(dim=-1)
    probabilities, ids = teacher.topk(min(top, shape[2]), dim=-1)
    plain = plain_kl(hidden, weight, ids, probabilities)
    assert_same(top_kl(hidden, weight, ids, probabilities), plain, hidden, weight)


def test_top_kl_over_all_tokens_is_the_kl_divergence() -> None:
    hidden, weight, random = inputs(5, 4, 7, 0)
    ids = torch.arange(7).expand(5, 7)
    student = (hidden @ weight.T).softmax(dim=-1)
    teacher = torch.rand(5, 7, generator=random, dtype=torch.float64).softmax(dim=-1)
    divergence = F.kl_div(student.log(), teacher, reduction="sum")
    torch.testing.assert_close(top_kl(hidden, weight, ids, teacher), divergence)
    assert float(top_kl(hidden, weight, ids, student.detach()).detach()) == pytest.approx(0, abs=1e-12)


def test_top_kl_is_defined_if_one_token_has_probability_1() -> None:
    hidden = torch.tensor([[100.0], [-100.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]])
    certain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = top_kl(hidden, weight, torch.tensor([[0, 1], [0, 1]]), certain)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert float(loss.detach()) == pytest.approx(200.0)  # 0 for the first row, log q = -200 in the second
    torch.testing.assert_close(gradient, torch.tensor([[0.0], [-2.0]]))


def test_probabilities_may_have_16_bits_and_ids_32() -> None:
    hidden, weight, random = inputs(6, 4, 11, 1)
    probabilities, ids = torch.rand(6, 11, generator=random).softmax(dim=-1).topk(3)
    stored = top_kl(hidden, weight, ids.int(), probabilities.half())
    torch.testing.assert_close(stored, plain_kl(hidden, weight, ids, probabilities.half().double()))


def test_no_rows_give_0() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    loss = cross_entropy(hidden, torch.ones(7, 4), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0
    assert hidden.grad is not None


def test_in_bf16_the_error_is_at_most_twice_the_plain_one() -> None:
    exact, weight, random = inputs(300, 64, 500, 2)
    labels = torch.randint(500, (300,), generator=random)
    reference = F.cross_entropy(exact @ weight.T, labels, reduction="sum")
    (truth,) = torch.autograd.grad(reference, exact)
    low = exact.detach().bfloat16().requires_grad_()
    errors = []
    for loss in (
        F.cross_entropy((low @ weight.detach().bfloat16().T).float(), labels, reduction="sum"),
        cross_entropy(low, weight.detach().bfloat16(), labels),
    ):
        (gradient,) = torch.autograd.grad(loss, low)
        errors.append((abs(float(loss.detach()) - float(reference.detach())), float((gradient - truth).abs().max())))
    assert all(ours <= 2 * plain for plain, ours in zip(*errors, strict=True))
