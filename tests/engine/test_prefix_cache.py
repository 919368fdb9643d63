"""A prompt that begins like an earlier one is read from where it differs, and answered as if it were read whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ragx import cepe
from ragx.engine.attention_sinks import AttentionSinks
from ragx.engine.cpu.compile import compile_reader
from ragx.engine.cpu.model import CpuModel
from ragx.engine.prefix_cache import PrefixCache
from ragx.engine.torch_decoder import TorchDecoder
from tests.helpers.tiny import activate, save_decoder

SYSTEM = list(range(20, 60))
PASSAGES = [[5, 9, 30], [7, 8]]


def keys_of(tokens: Sequence[int]) -> list[np.ndarray]:
    """A layer whose keys and values say which tokens they are of: 8 bytes a token."""
    rows = np.array(tokens, np.float32).reshape(1, 1, -1, 1)
    return [rows, -rows]


def common(first: Sequence[int], second: Sequence[int]) -> int:
    return max(n for n in range(min(len(first), len(second)) + 1) if list(first[:n]) == list(second[:n]))


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=10)


@given(PROMPTS, st.lists(st.integers(0, 2), max_size=8))
def test_the_longest_known_beginning_is_found(prompts: list[list[int]], prompt: list[int]) -> None:
    cache = PrefixCache(1 << 20)
    for each in prompts:
        cache.add(each, keys_of(each))
    known = cache.longest(prompt)
    length = max((common(each, prompt) for each in prompts), default=0)
    if length == 0:
        assert known == []
    for array, expected in zip(known, keys_of(prompt[:length]), strict=bool(known)):
        np.testing.assert_array_equal(array, expected)


@given(PROMPTS)
def test_the_cache_stays_within_its_limit_and_keeps_the_last_prompt(prompts: list[list[int]]) -> None:
    cache = PrefixCache(limit=6 * 8)
    for prompt in prompts:
        cache.add(prompt, keys_of(prompt))
        known = cache.longest(prompt)
        assert known[0].shape[2] == min(len(prompt), 6)
        assert cache.size <= 6 * 8


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    cache = PrefixCache(limit=4 * 8)
    for prompt in ([1, 1], [2, 2]):
        cache.add(prompt, keys_of(prompt))
    assert cache.longest([1, 1])
    cache.add([3, 3], keys_of([3, 3]))
    assert cache.longest([1, 1])
    assert not cache.longest([2, 2])


def test_a_prompt_is_copied() -> None:
    cache, arrays = PrefixCache(1 << 10), keys_of([1, 2, 3])
    cache.add([1, 2], arrays)
    arrays[0][:] = 0
    np.testing.assert_array_equal(cache.longest([1, 2])[0].ravel(), [1, 2])


@pytest.fixture(scope="module")
def torch_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("decoder")
    save_decoder(folder, "llama", hidden_size=64, head_dim=32, num_attention_heads=4, num_key_value_heads=2)
    return activate(cepe.load(str(folder), dtype="float32", device="cpu"), std=0.2)


@pytest.fixture(scope="module", params=["torch", "cpu"])
def decoder(request: pytest.FixtureRequest, torch_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A decoder that has read no prompt, and what encodes passages for it."""
    if request.param == "torch":
        return torch_model, lambda: TorchDecoder(torch_model)
    folder = tmp_path_factory.mktemp("compiled")
    compile_reader(torch_model, folder)
    return CpuModel(folder), lambda: CpuModel(folder)


def read(decoder: Any, context: Any, prompt: list[int]) -> tuple[int, np.ndarray]:
    """How many tokens were known, and the logits after the prompt and one more token."""
    sequence = decoder.sequence(context, len(prompt) + 4)
    known = decoder.reuse(sequence, prompt)
    decoder.prefill(sequence, prompt[known:], is_last=True)
    batch = decoder.batch()
    batch.join(sequence)
    return known, batch.step([3])[0]


@pytest.mark.parametrize(
    ("attend_from", "shared"),
    [(None, 40), (40, 40), (30, 30), (0, 0)],
    ids=["no passages", "the question attends", "a part of the system text attends", "all attends"],
)
def test_answers_are_those_of_prompts_read_whole(decoder: Any, attend_from: int | None, shared: int) -> None:
    encoder, new = decoder
    context = None
    if attend_from is not None:
        context = encoder.encode_passages(PASSAGES)
        context.attend_from = attend_from
    reused, whole = new(), new()
    read(reused, context, [*SYSTEM, 61, 62])
    if context is not None:  # other passages, which must not be seen through the beginning
        context = encoder.encode_passages([*PASSAGES[::-1], [80, 81, 82]])
        context.attend_from = attend_from
    known, logits = read(reused, context, [*SYSTEM, 70, 71, 72])
    assert known == shared
    np.testing.assert_allclose(logits, read(whole, context, [*SYSTEM, 70, 71, 72])[1], atol=2e-4)


def test_the_last_token_is_always_read(decoder: Any) -> None:
    _, new = decoder
    model = new()
    first = read(model, None, SYSTEM)
    again = read(model, None, SYSTEM)
    assert again[0] == len(SYSTEM) - 1
    np.testing.assert_allclose(again[1], first[1], atol=2e-4)


def test_a_frugal_model_keeps_nothing(torch_model: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("frugal")
    compile_reader(torch_model, folder)
    model = CpuModel(folder, frugal=True)
    assert [read(model, None, SYSTEM)[0] for _ in range(2)] == [0, 0]


def test_a_cache_that_drops_tokens_is_not_shared(torch_model: Any) -> None:
    decoder = TorchDecoder(torch_model)
    with torch.inference_mode():
        for _ in range(2):
            sequence = decoder.sequence(AttentionSinks(4, 8, 12), 0)
            assert decoder.reuse(sequence, SYSTEM) == 0
            decoder.prefill(sequence, SYSTEM, is_last=True)
