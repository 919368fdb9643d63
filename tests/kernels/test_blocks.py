"""Attention in blocks of rows has the outputs and gradients of plain attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ragx_kernels.cross_attention import blocks
from ragx_kernels.cross_attention.blocks import attend_in_blocks
from torch import Tensor

B, H, G, N, C = 3, 6, 2, 37, 8


def masks() -> list[Tensor | None]:
    """None, causal, different for each question, and padding of keys."""
    torch.manual_seed(1)
    own = torch.eye(N, dtype=torch.bool)
    return [
        None,
        torch.ones(1, N, N, dtype=torch.bool).tril(),
        (torch.rand(B, N, N) > 0.5) | own,
        torch.rand(B, 1, N) > 0.3,
    ]


def results(attended: Tensor, inputs: list[Tensor], upstream: Tensor) -> list[Tensor]:
    return [attended.detach(), *torch.autograd.grad(attended, inputs, upstream)]


@pytest.mark.parametrize("block_bytes", [2 << 20, 40_000, 3000], ids=["all", "some problems", "some rows"])
@pytest.mark.parametrize("mask", masks(), ids=["none", "causal", "own", "padding"])
def test_blocks_agree_with_plain_attention(
    block_bytes: int, mask: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    torch.manual_seed(0)
    shapes = [(B, N, H, C), (B, G, N, C), (B, G, C, N)]
    query, keys, values = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    inputs = [query, keys, values]
    given = (query.transpose(1, 2), keys, values.transpose(2, 3))  # as strided as in the model
    upstream = torch.randn(B, N, H, C, dtype=torch.float64).transpose(1, 2)
    plain = F.scaled_dot_product_attention(
        *given, attn_mask=None if mask is None else mask[:, None], scale=0.3, enable_gqa=True
    )
    for ours, expected in zip(
        results(attend_in_blocks(*given, scale=0.3, mask=mask), inputs, upstream),
        results(plain, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_in_bf16_the_error_is_at_most_twice_that_of_plain_pytorch() -> None:
    torch.manual_seed(0)
    exact = [torch.randn(2, heads, 200, 64).requires_grad_() for heads in (4, 2, 2)]
    rounded = [each.detach().bfloat16().requires_grad_() for each in exact]
    upstream = torch.randn(2, 4, 200, 64)

    def plain(inputs: list[Tensor]) -> list[Tensor]:
        query, keys, values = inputs
        keys, values = (each.repeat_interleave(2, dim=1) for each in (keys, values))
        attended = (query @ keys.transpose(2, 3) * 0.125).softmax(dim=-1) @ values
        return results(attended, inputs, upstream.to(attended.dtype))

    ours = results(attend_in_blocks(*rounded, scale=0.125), rounded, upstream.bfloat16())
    for mine, naive, truth in zip(ours, plain(rounded), plain(exact), strict=True):
        assert (mine.float() - truth).norm() <= 2 * (naive.float() - truth).norm()
