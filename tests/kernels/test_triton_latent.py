"""Latent decoding in Triton: on a GPU if available, otherwise in Triton's interpreter."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_kernels.cross_attention import cross_attention, dequantize, latent, naive, quantize
from ragx_kernels.cross_attention.splits import split
from torch import Tensor

from tests.helpers.attention_inputs import Inputs, inputs, make_inputs, relative_error

kernel = pytest.importorskip("ragx_kernels.cross_attention.triton", reason="Triton is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # log(0) = -inf is intended
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def nan_in_empty_tensors() -> Iterator[None]:
    """Fill output tensors with NaN, so that an unwritten element shows (`torch.utils.deterministic`)."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def triton_for_all_latent_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "_runs_in_triton", lambda *_: True)


def attend(given: Inputs, *, lse: bool = True, **options: Any) -> tuple[Tensor, Tensor | None]:
    moved = [tensor.to(DEVICE) for tensor in given.tensors]
    options = {key: value.to(DEVICE) if isinstance(value, Tensor) else value for key, value in options.items()}
    mask = None if given.mask is None else given.mask.to(DEVICE)
    offsets = given.offsets if lse else None
    output, sums = cross_attention(*moved, strategy="latent", mask=mask, offsets=offsets, **options)
    return output.cpu(), None if sums is None else sums.cpu()


@settings(deadline=None, max_examples=15)
@given(given=inputs(least_width=16), splits=st.integers(1, 6))
def test_agrees_with_the_definition(given: Inputs, splits: int) -> None:
    output, lse = given.expected()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "attend_to_phi", functools.partial(kernel.attend_to_phi, splits=splits))
        result, result_lse = attend(given)
        without_lse, no_lse = attend(given, lse=False)
    assert relative_error(result, output) < 1e-5
    assert result_lse is not None
    assert relative_error(result_lse, lse) < 1e-5
    assert relative_error(without_lse, output) < 1e-5
    assert no_lse is None


@pytest.mark.parametrize("width", [384, 400, 576, 768, 1000, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_error_is_at_most_twice_that_of_plain_pytorch(width: int, dtype: torch.dtype) -> None:
    lengths = [[70, 128, 5]]
    given = make_inputs(lengths, heads=9, groups=3, head_dim=64, width=width, queries=1).to(dtype)
    exact, exact_lse = naive.cross_attention(*(tensor.double() for tensor in given.tensors), offsets=given.offsets)
    query, phi, key_weight, value_weight = given.tensors
    key = (phi @ key_weight.T).unflatten(2, (3, 64)).transpose(1, 2).repeat_interleave(3, dim=1)
    value = (phi @ value_weight.T).unflatten(2, (3, 64)).transpose(1, 2).repeat_interleave(3, dim=1)
    plain = ((query @ key.transpose(2, 3)) * 64**-0.5).softmax(dim=3) @ value
    result, lse = attend(given)
    assert lse is not None
    assert result.dtype == dtype
    if dtype == torch.float32:
        assert relative_error(result, exact) < 1e-5
        assert relative_error(lse, exact_lse) < 1e-5
    else:
        assert (result - exact).abs().mean() <= 2 * (plain - exact).abs().mean()
        assert (result - exact).abs().max() <= 2 * (plain - exact).abs().max()
        assert (lse - exact_lse).abs().max() < 0.03  # nats


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [4, 32, 36])
def test_int8_phi_agrees_with_its_dequantized_rows(heads: int, dtype: torch.dtype) -> None:
    absent = frozenset({(0, 1)})
    given = make_inputs([[33, 20, 0, 40], [70]], heads=heads, groups=4, width=400, queries=1, absent=absent).to(dtype)
    phi8, scale = quantize(given.phi)
    output, lse = replace(given, phi=dequantize(phi8, scale, torch.float32)).expected()
    result, result_lse = attend(replace(given, phi=phi8), phi_scale=scale)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert relative_error(result, output) < tolerance
    assert result_lse is not None
    assert relative_error(result_lse, lse) < tolerance


def test_tokens_after_the_last_offset_are_attended_to() -> None:
    given = make_inputs([[40, 30, 9]], width=32)
    output, lse = given.expected()
    given.offsets[0].pop()
    result, result_lse = attend(given)
    assert relative_error(result, output) < 1e-5
    assert result_lse is not None
    assert relative_error(result_lse, lse[..., :2]) < 1e-5


def test_only_passages_longer_than_a_split_are_divided() -> None:
    plan = split(((0, 4, 8, 8, 40, 43),), 4, keep_passages=True, device=torch.device("cpu"))
    assert plan.runs[0].tolist() == [[0, 4], [4, 8], [8, 18], [18, 29], [29, 40], [40, 43]]
    assert plan.passage[0].tolist() == [0, 1, 3, 3, 3, 4]
    assert plan.first_run[0].tolist() == [0, 2, 3, 4, 5, 6]
    merged = split(((0, 4, 8, 8, 40, 43),), 4, keep_passages=False, device=torch.device("cpu"))
    assert merged.runs[0].tolist() == [[0, 8], [8, 18], [18, 29], [29, 40], [40, 43]]


@given(
    lengths=st.lists(st.lists(st.integers(0, 50), max_size=8), min_size=1, max_size=3),
    count=st.integers(1, 9),
    keep=st.booleans(),
)
def test_splits_read_every_token_once(lengths: list[list[int]], count: int, keep: bool) -> None:
    offsets = tuple(tuple(row) for row in make_inputs(lengths).offsets)
    plan = split(offsets, count, keep_passages=keep, device=torch.device("cpu"))
    for starts, runs, firsts, passages in zip(offsets, plan.runs, plan.first_run, plan.passage, strict=True):
        last = int(firsts[-1])
        assert firsts[0] == 0
        assert (firsts.diff() >= 0).all()
        read = [token for start, stop in runs[:last].tolist() for token in range(start, stop)]
        assert read == list(range(starts[-1]))
        assert all(start == stop for start, stop in runs[last:].tolist())
        if keep:
            for (start, stop), k in zip(runs[:last].tolist(), passages[:last].tolist(), strict=True):
                assert starts[k] <= start < stop <= starts[k + 1]


def test_rows_too_wide_for_the_gpu_are_refused() -> None:
    assert kernel.block_sizes(32, 1024, 2, 99 * 1024) is not None
    assert kernel.block_sizes(32, 1024, 4, 99 * 1024) is None
    with pytest.raises(ValueError, match="shared memory"):
        kernel.attend_to_phi(torch.zeros(1, 1, 2**18), torch.zeros(1, 1, 2**18), scale=1.0)
