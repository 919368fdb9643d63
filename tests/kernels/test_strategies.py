"""The three strategies agree with naive.py."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_kernels.cross_attention import (
    AttentionStrategy,
    attention_shares,
    cross_attention,
    dequantize,
    naive,
    project_keys_values,
    quantize,
)
from torch import Tensor

from tests.helpers.attention_inputs import Inputs, inputs, make_inputs, relative_error

STRATEGIES: list[AttentionStrategy] = ["project", "cached", "latent"]
LENGTHS = [[5, 9, 0, 3], [4, 4], [7, 1, 6, 6]]
LONG = [[5000, 9, 0, 5000], [4, 4], [7, 1, 6, 6]]
"""More tokens than one block or part holds."""
ABSENT = frozenset({(0, 1), (2, 3)})


def attend(
    strategy: AttentionStrategy, given: Inputs, *, lse: bool = True, **options: Tensor | float
) -> tuple[Tensor, Tensor | None]:
    phi_scale = options.get("phi_scale")
    assert phi_scale is None or isinstance(phi_scale, Tensor)
    keys_values = None
    if strategy == "cached":
        _, phi, key_weight, value_weight = given.tensors
        keys_values = project_keys_values(phi, key_weight, value_weight, head_dim=given.head_dim, phi_scale=phi_scale)
    offsets = given.offsets if lse else None
    return cross_attention(
        *given.tensors, strategy=strategy, keys_values=keys_values, mask=given.mask, offsets=offsets, **options
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None, max_examples=60)
@given(given=inputs())
def test_each_strategy_agrees_with_the_definition(strategy: AttentionStrategy, given: Inputs) -> None:
    output, lse = given.expected()
    result, result_lse = attend(strategy, given)
    assert relative_error(result, output) < 1e-5
    assert result_lse is not None
    assert relative_error(result_lse, lse) < 1e-5
    without_lse, no_lse = attend(strategy, given, lse=False)
    assert relative_error(without_lse, output) < 1e-5
    assert no_lse is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_many_queries_run_in_blocks(strategy: AttentionStrategy) -> None:
    given = make_inputs(LONG, queries=150, absent=ABSENT)  # 450 rows a group, blocks of some 50
    output, lse = given.expected()
    result, result_lse = attend(strategy, given)
    assert relative_error(result, output) < 1e-5
    assert result_lse is not None
    assert relative_error(result_lse, lse) < 1e-5


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None, max_examples=30)
@given(given=inputs())
def test_gradients_agree_with_the_definition(strategy: AttentionStrategy, given: Inputs) -> None:
    def gradients(run: object) -> list[Tensor]:
        leaves = [tensor.double().requires_grad_() for tensor in given.tensors]
        output = run(Inputs(*leaves, mask=given.mask, offsets=given.offsets))  # type: ignore[operator]
        weights = torch.linspace(-1, 1, max(1, output.numel()), dtype=torch.double)[: output.numel()]
        unused = sum((leaf * 0).sum() for leaf in leaves)  # every leaf gets a gradient
        return list(torch.autograd.grad((output.flatten() * weights).sum() + unused, leaves))

    expected = gradients(lambda inputs: inputs.expected()[0])
    result = gradients(lambda inputs: attend(strategy, inputs, lse=False)[0])
    for ours, theirs in zip(result, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("queries", [1, 70])
def test_half_precision_error_is_at_most_twice_that_of_plain_pytorch(
    strategy: AttentionStrategy, dtype: torch.dtype, queries: int
) -> None:
    given = make_inputs([[130, 120, 97]], head_dim=64, width=96, heads=4, queries=queries).to(dtype)
    exact, exact_lse = naive.cross_attention(*given.tensors, offsets=given.offsets)  # computes in float32
    query, phi, key_weight, value_weight = given.tensors
    key = (phi @ key_weight.T).unflatten(2, (2, 64)).transpose(1, 2).repeat_interleave(2, dim=1)
    value = (phi @ value_weight.T).unflatten(2, (2, 64)).transpose(1, 2).repeat_interleave(2, dim=1)
    plain = ((query @ key.transpose(2, 3)) * 64**-0.5).softmax(dim=3) @ value
    result, lse = attend(strategy, given)
    assert lse is not None
    assert result.dtype == dtype
    assert (result - exact).abs().mean() <= 2 * (plain - exact).abs().mean()
    assert (result - exact).abs().max() <= 2 * (plain - exact).abs().max()
    assert (lse - exact_lse).abs().max() < 0.03  # nats


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("queries", [1, 40])
@pytest.mark.parametrize("lengths", [LENGTHS, LONG], ids=["short", "long"])
def test_int8_phi_agrees_with_its_dequantized_rows(
    strategy: AttentionStrategy, queries: int, lengths: list[list[int]]
) -> None:
    given = make_inputs(lengths, queries=queries, absent=ABSENT)
    phi8, scale = quantize(given.phi)
    dequantized = replace(given, phi=dequantize(phi8, scale, torch.float32))
    output, lse = dequantized.expected()
    result, result_lse = attend(strategy, replace(given, phi=phi8), phi_scale=scale)
    assert relative_error(result, output) < 1e-5
    assert result_lse is not None
    assert relative_error(result_lse, lse) < 1e-5


def test_int8_error_is_at_most_half_a_step() -> None:
    phi = torch.randn(3, 7, 20) * torch.logspace(-4, 3, 7)[:, None]
    phi[1, 2] = 0
    phi8, scale = quantize(phi)
    step = phi.abs().amax(dim=2, keepdim=True) / 127
    assert phi8.dtype == torch.int8
    assert ((dequantize(phi8, scale, torch.float32) - phi).abs() <= step * 0.5001).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_of_passages_does_not_matter(strategy: AttentionStrategy) -> None:
    given = make_inputs([[5, 9, 1, 3]])
    order = [2, 0, 3, 1]
    bounds = given.offsets[0]
    passages = [given.phi[:, bounds[k] : bounds[k + 1]] for k in order]
    offsets = [0]
    for passage in passages:
        offsets.append(offsets[-1] + passage.shape[1])
    permuted = Inputs(given.query, torch.cat(passages, dim=1), *given.tensors[2:], None, [offsets])
    output, lse = attend(strategy, given)
    result, result_lse = attend(strategy, permuted)
    assert lse is not None
    assert result_lse is not None
    torch.testing.assert_close(result, output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result_lse, lse[..., order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batching_does_not_change_the_output(strategy: AttentionStrategy) -> None:
    given = make_inputs(LENGTHS, absent=ABSENT)
    batched, _ = attend(strategy, given)
    assert given.mask is not None
    for b in range(len(LENGTHS)):
        length = given.offsets[b][-1]
        alone = Inputs(
            given.query[b : b + 1],
            given.phi[b : b + 1, :length],
            *given.tensors[2:],
            given.mask[b : b + 1, :length],
            [given.offsets[b]],
        )
        torch.testing.assert_close(attend(strategy, alone)[0][0], batched[b], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_masked_passage_counts_as_absent(strategy: AttentionStrategy) -> None:
    masked = make_inputs([[5, 9, 3]], absent=frozenset({(0, 1)}))
    phi = torch.cat([masked.phi[:, :5], masked.phi[:, 14:]], dim=1)
    output, lse = attend(strategy, masked)
    expected, expected_lse = attend(strategy, replace(masked, phi=phi, mask=None, offsets=[[0, 5, 8]]))
    assert lse is not None
    assert expected_lse is not None
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lse[..., [0, 2]], expected_lse, rtol=1e-5, atol=1e-6)
    assert (lse[..., 1] == -torch.inf).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_tokens_the_output_is_zero(strategy: AttentionStrategy) -> None:
    for empty in (make_inputs([[0, 0]]), make_inputs([[]]), make_inputs([[4]], absent=frozenset({(0, 0)}))):
        output, lse = attend(strategy, empty)
        assert output.shape == empty.query.shape
        assert lse is not None
        assert not output.any()
        assert (lse == -torch.inf).all()
        assert not attention_shares(lse).any()


@settings(deadline=None, max_examples=40)
@given(given=inputs(), strategy=st.sampled_from(STRATEGIES))
def test_log_sum_exps_of_passages_add_up_and_shares_sum_to_1(given: Inputs, strategy: AttentionStrategy) -> None:
    whole = naive.cross_attention(*given.tensors, mask=given.mask)[1]  # all in one passage
    lse = attend(strategy, given)[1]
    assert lse is not None
    assert relative_error(lse.logsumexp(dim=3, keepdim=True) if lse.shape[3] else whole, whole) < 1e-5
    total = attention_shares(lse).sum(dim=3)
    assert torch.allclose(total, (lse > -torch.inf).any(dim=3).to(total.dtype))


def test_the_output_is_the_mean_of_the_passages_outputs_weighted_by_their_shares() -> None:
    given = make_inputs([[5, 9, 3]])
    output, lse = attend("project", given)
    assert lse is not None
    bounds = given.offsets[0]
    parts = [
        naive.cross_attention(given.query, given.phi[:, start:stop], *given.tensors[2:])[0]
        for start, stop in pairwise(bounds)
    ]
    mixed = (torch.stack(parts, dim=3) * attention_shares(lse)[..., None]).sum(dim=3)
    torch.testing.assert_close(output, mixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_scale_can_be_set(strategy: AttentionStrategy) -> None:
    given = make_inputs([[5, 9]])
    expected, _ = naive.cross_attention(*given.tensors, scale=0.7)
    assert relative_error(attend(strategy, given, scale=0.7)[0], expected) < 1e-5


def test_auto_uses_cached_keys_and_values_if_given() -> None:
    given = make_inputs([[5, 9]])
    zeros = (torch.zeros(1, 2, 14, 8), torch.zeros(1, 2, 14, 8))
    assert not cross_attention(*given.tensors, keys_values=zeros)[0].any()
    assert relative_error(cross_attention(*given.tensors)[0], given.expected()[0]) < 1e-5


def test_cached_needs_keys_and_values() -> None:
    with pytest.raises(ValueError, match="needs keys_values"):
        cross_attention(*make_inputs([[3]]).tensors, strategy="cached")


@pytest.mark.parametrize("offsets", [[[0, 9]], [[1, 3]], [[0, 3, 2]], [[]], [[0, 3], [0, 3]]])
def test_invalid_offsets_are_refused(offsets: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="offsets must"):
        cross_attention(*make_inputs([[3]]).tensors, offsets=offsets)


def test_offsets_may_be_a_tensor_and_end_before_the_context() -> None:
    given = make_inputs([[4, 2]])
    output, lse = cross_attention(*given.tensors, strategy="project", offsets=torch.tensor([[0, 4]]))
    expected, expected_lse = given.expected()
    assert lse is not None
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lse, expected_lse[..., :1], rtol=1e-5, atol=1e-6)
