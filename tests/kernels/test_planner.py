"""Which attention strategy is chosen, from the two constants of a device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ragx_kernels.cross_attention import DeviceProfile, Shape, choose, device_profile, planner

GPU = DeviceProfile(flops=8e14, bandwidth=4e12)
TWO_CORES = DeviceProfile(flops=8e11, bandwidth=2.5e10)
PLENTY = 1e15
SMOLLM2 = Shape(1, 8_040, heads=9, kv_heads=3, head_dim=64, encoder_width=576, layers=30)
LLAMA2 = Shape(1, 8_192, heads=32, kv_heads=32, head_dim=128, encoder_width=1024, layers=32, on_gpu=True)
LLAMA3 = replace(LLAMA2, kv_heads=8)


def test_prefill_projects_and_keeps_nothing() -> None:
    for shape, device in ((SMOLLM2, TWO_CORES), (LLAMA2, GPU), (LLAMA3, GPU)):
        assert choose(replace(shape, queries=1500), device, memory=PLENTY) == "project"


def test_decoding_with_few_key_value_heads_caches_keys_and_values() -> None:
    assert choose(SMOLLM2, TWO_CORES, memory=PLENTY, steps=64) == "cached"


def test_decoding_with_many_key_value_heads_is_latent() -> None:
    """E < 2·G·D: Φ is smaller than keys and values."""
    assert choose(LLAMA2, GPU, memory=PLENTY, steps=64) == "latent"
    assert choose(LLAMA2, TWO_CORES, memory=PLENTY, steps=64) == "latent"


def test_int8_phi_reads_fewer_bytes_only_on_a_gpu() -> None:
    narrow = replace(SMOLLM2, phi_itemsize=1)
    assert choose(narrow, TWO_CORES, memory=PLENTY, steps=64) == "cached"
    assert choose(replace(narrow, on_gpu=True), GPU, memory=PLENTY, steps=1000) == "latent"


def test_keys_and_values_that_do_not_fit_are_not_cached() -> None:
    needed = 2 * 8_040 * 192 * 2 * 30
    assert planner.cache_bytes("cached", SMOLLM2) == needed
    assert choose(SMOLLM2, TWO_CORES, memory=needed, steps=64) == "cached"
    assert choose(SMOLLM2, TWO_CORES, memory=needed - 1, steps=64) == "latent"


def test_latent_cost_matches_the_readme() -> None:
    """4·N·H·E·(M + D) operations or M·E·b bytes, whichever takes longer."""
    compute_bound, memory_bound = DeviceProfile(1e9, 1e15), DeviceProfile(1e18, 1e9)
    assert planner.seconds("latent", SMOLLM2, compute_bound) == pytest.approx(4 * 9 * 576 * (8_040 + 64) / 1e9)
    assert planner.seconds("latent", SMOLLM2, memory_bound) == pytest.approx(8_040 * 576 * 2 / 1e9)


shapes = st.builds(
    Shape,
    queries=st.integers(1, 4096),
    tokens=st.integers(1, 131_072),
    heads=st.integers(1, 64),
    kv_heads=st.integers(1, 64),
    head_dim=st.integers(16, 256),
    encoder_width=st.integers(64, 2048),
    layers=st.integers(1, 80),
)
devices = st.builds(DeviceProfile, flops=st.floats(1e9, 1e16), bandwidth=st.floats(1e8, 1e13))


@given(shape=shapes, device=devices, steps=st.integers(1, 1000), memory=st.floats(0, 1e13))
def test_the_choice_is_the_fastest_that_fits(shape: Shape, device: DeviceProfile, steps: int, memory: float) -> None:
    choice = choose(shape, device, memory=memory, steps=steps)
    assert planner.cache_bytes(choice, shape) <= memory
    fastest = planner.seconds(choice, shape, device, steps=steps)
    for strategy in planner.STRATEGIES:
        if planner.cache_bytes(strategy, shape) <= memory:
            assert fastest <= planner.seconds(strategy, shape, device, steps=steps)


@given(shape=shapes, device=devices)
def test_without_memory_nothing_is_cached(shape: Shape, device: DeviceProfile) -> None:
    assert choose(shape, device, memory=0, steps=1000) != "cached"


def test_a_device_is_measured_once_per_process() -> None:
    first = device_profile("cpu", torch.float32)
    assert first.flops > 1e8
    assert first.bandwidth > 1e8
    assert device_profile("cpu", torch.float32) is first
    assert device_profile("cpu", torch.bfloat16) is not first
