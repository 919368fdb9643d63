"""Which way is chosen, and how the machine's two constants are kept."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ragx_kernels.cross_attention import Machine, Shape, choose, machine
from ragx_kernels.cross_attention import planner as cost

GPU = Machine(flops=8e14, bandwidth=4e12)
TWO_CORES = Machine(flops=8e11, bandwidth=2.5e10)
PLENTY = 1e15
SMOLLM2 = Shape(1, 8_040, heads=9, kv_heads=3, head_dim=64, encoder_width=576, layers=30)
LLAMA2 = Shape(1, 8_192, heads=32, kv_heads=32, head_dim=128, encoder_width=1024, layers=32, on_gpu=True)
LLAMA3 = replace(LLAMA2, kv_heads=8)


def test_prefill_projects_and_keeps_nothing() -> None:
    for shape, on in ((SMOLLM2, TWO_CORES), (LLAMA2, GPU), (LLAMA3, GPU)):
        assert choose(replace(shape, queries=1500), on, memory=PLENTY) == "project"


def test_decoding_with_few_key_value_heads_keeps_them() -> None:
    assert choose(SMOLLM2, TWO_CORES, memory=PLENTY, steps=64) == "cached"


def test_decoding_with_many_key_value_heads_reads_phi() -> None:
    """E < 2·G·D: Φ is the smaller."""
    assert choose(LLAMA2, GPU, memory=PLENTY, steps=64) == "latent"
    assert choose(LLAMA2, TWO_CORES, memory=PLENTY, steps=64) == "latent"


def test_int8_phi_is_read_at_its_size_on_a_gpu_only() -> None:
    narrow = replace(SMOLLM2, phi_itemsize=1)
    assert choose(narrow, TWO_CORES, memory=PLENTY, steps=64) == "cached"
    assert choose(replace(narrow, on_gpu=True), GPU, memory=PLENTY, steps=1000) == "latent"


def test_keys_and_values_that_do_not_fit_are_not_kept() -> None:
    needed = 2 * 8_040 * 192 * 2 * 30
    assert cost.resident("cached", SMOLLM2) == needed
    assert choose(SMOLLM2, TWO_CORES, memory=needed, steps=64) == "cached"
    assert choose(SMOLLM2, TWO_CORES, memory=needed - 1, steps=64) == "latent"


def test_latent_costs_what_the_table_says() -> None:
    """4·n·H·E·(M + D) operations or M·E·b bytes, whichever takes longer."""
    compute_bound, memory_bound = Machine(1e9, 1e15), Machine(1e18, 1e9)
    assert cost.seconds("latent", SMOLLM2, compute_bound) == pytest.approx(4 * 9 * 576 * (8_040 + 64) / 1e9)
    assert cost.seconds("latent", SMOLLM2, memory_bound) == pytest.approx(8_040 * 576 * 2 / 1e9)


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
machines = st.builds(Machine, flops=st.floats(1e9, 1e16), bandwidth=st.floats(1e8, 1e13))


@given(shape=shapes, on=machines, steps=st.integers(1, 1000), memory=st.floats(0, 1e13))
def test_the_choice_fits_and_nothing_that_fits_is_faster(shape: Shape, on: Machine, steps: int, memory: float) -> None:
    choice = choose(shape, on, memory=memory, steps=steps)
    assert cost.resident(choice, shape) <= memory
    for way in cost.WAYS:
        if cost.resident(way, shape) <= memory:
            assert cost.seconds(choice, shape, on, steps=steps) <= cost.seconds(way, shape, on, steps=steps)


@given(shape=shapes, on=machines)
def test_without_memory_nothing_is_kept(shape: Shape, on: Machine) -> None:
    assert choose(shape, on, memory=0, steps=1000) != "cached"


def test_the_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / "machine.json"
    start = time.perf_counter()
    first = machine("cpu", torch.float32, path)
    assert time.perf_counter() - start < 5  # a fraction of a second on an idle machine
    assert first.flops > 1e8
    assert first.bandwidth > 1e8
    monkeypatch.setattr(cost, "measure", lambda *_: pytest.fail("measured again"))
    assert machine("cpu", torch.float32, path) == first
    assert [file.name for file in path.parent.iterdir()] == ["machine.json"]


def test_each_number_format_has_its_own_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    monkeypatch.setattr(cost, "measure", lambda _, dtype: Machine(1.0 if dtype == torch.float32 else 2.0, 3.0))
    assert machine("cpu", torch.float32, path).flops == 1
    assert machine("cpu", torch.bfloat16, path).flops == 2
    assert len(json.loads(path.read_text())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[]",
        b"null",
        b'{"x": 1}',
        b'{"x": {"flops": 1}}',
        b'{"x": {"flops": "a", "bandwidth": 1}}',
    ],
)
def test_a_damaged_file_is_replaced(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    path.write_bytes(damage)
    monkeypatch.setattr(cost, "measure", lambda *_: Machine(5.0, 6.0))
    assert machine("cpu", torch.float32, path) == Machine(5.0, 6.0)
    assert list(json.loads(path.read_text()).values()) == [{"flops": 5.0, "bandwidth": 6.0}]


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "Infinity"])
def test_an_impossible_constant_is_measured_again(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    monkeypatch.setattr(cost, "measure", lambda *_: Machine(5.0, 6.0))
    machine("cpu", torch.float32, path)
    path.write_text(path.read_text().replace("5.0", value))
    assert machine("cpu", torch.float32, path) == Machine(5.0, 6.0)


def test_a_file_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measure", lambda *_: Machine(5.0, 6.0))
    (tmp_path / "file").write_text("")
    assert machine("cpu", torch.float32, tmp_path / "file" / "machine.json") == Machine(5.0, 6.0)
    folder = tmp_path / "machine.json"
    folder.mkdir()
    assert machine("cpu", torch.float32, folder) == Machine(5.0, 6.0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "machine.json"]
