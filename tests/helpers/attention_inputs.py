"""Random cross-attention inputs of odd shapes, and a measure of error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from hypothesis import strategies as st
from ragx_kernels.cross_attention import naive
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    query: Tensor
    phi: Tensor
    key_weight: Tensor
    value_weight: Tensor
    mask: Tensor | None
    offsets: list[list[int]]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.query, self.phi, self.key_weight, self.value_weight

    @property
    def head_dim(self) -> int:
        return self.query.shape[3]

    def to(self, dtype: torch.dtype) -> Inputs:
        query, phi, key_weight, value_weight = (tensor.to(dtype) for tensor in self.tensors)
        return replace(self, query=query, phi=phi, key_weight=key_weight, value_weight=value_weight)

    def expected(self) -> tuple[Tensor, Tensor]:
        return naive.cross_attention(*self.tensors, mask=self.mask, offsets=self.offsets)


def make_inputs(
    lengths: list[list[int]],
    *,
    heads: int = 6,
    groups: int = 2,
    head_dim: int = 8,
    width: int = 24,
    queries: int = 3,
    seed: int = 0,
    absent: frozenset[tuple[int, int]] = frozenset(),
) -> Inputs:
    """Inputs with passages of these lengths for each question; shorter rows are padded.

    `absent` holds (question, passage) pairs to mask.
    """
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    offsets = [list(accumulate(row, initial=0)) for row in lengths]
    tokens = max(row[-1] for row in offsets)
    mask = torch.arange(tokens) < torch.tensor([[row[-1]] for row in offsets])  # (B, M)
    for b, k in absent:
        mask[b, offsets[b][k] : offsets[b][k + 1]] = False
    longest = max(len(row) for row in offsets)
    return Inputs(
        query=normal(len(lengths), heads, queries, head_dim),
        phi=normal(len(lengths), tokens, width),
        key_weight=normal(groups * head_dim, width) * (2 / width) ** 0.5,
        value_weight=normal(groups * head_dim, width) / width**0.5,
        mask=None if mask.all() else mask,
        offsets=[row + row[-1:] * (longest - len(row)) for row in offsets],
    )


@st.composite
def inputs(draw: st.DrawFn, least_width: int = 1) -> Inputs:
    """Batches of questions with any number of passages of any length, including none and empty ones."""
    groups = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=3))
    places = [(b, k) for b, row in enumerate(lengths) for k in range(len(row))]
    return make_inputs(
        lengths,
        groups=groups,
        heads=groups * draw(st.integers(1, 3)),
        head_dim=draw(st.sampled_from([1, 5, 8])),
        width=draw(st.integers(least_width, 40)),
        queries=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 2**16)),
        absent=draw(st.frozensets(st.sampled_from(places))) if places else frozenset(),
    )


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest magnitude, or over 0.1 where terms near 1 cancel; −∞ must match −∞."""
    assert torch.equal(result.isinf(), expected.isinf())
    finite = expected.isfinite()
    difference = (result.double() - expected.double())[finite].abs()
    return float(difference.max() / expected[finite].abs().max().clamp_min(0.1)) if difference.numel() else 0.0
