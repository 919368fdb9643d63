"""Stretched positions: frequencies from the papers' formulas in float64, and windows that are longer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ragx import cepe
from ragx.config import ModelOptions
from ragx.engine.open import choose_backend
from ragx.errors import ConfigError, ModelError
from ragx.util.settings import checked
from tests.helpers.tiny import save_decoder

IDS = torch.randint(3, 200, (1, 25), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_decoder(folder, hidden_size=64, head_dim=64, max_position_embeddings=4096)
    return folder


def load(folder: Path, scaling: str | None = None) -> Any:
    return cepe.load(str(folder), dtype="float32", device="cpu", plain=True, rope_scaling=scaling)


def frequencies(scale: float, *, size: int = 64, base: float = 10_000.0, window: int = 4096) -> list[float]:
    """YaRN: θ'_i = θ_i[(1 − γ_i)/s + γ_i], γ a ramp between β_slow = 1 and β_fast = 32 rotations over the window."""

    def dimension(rotations: int) -> float:
        return size * math.log(window / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(dimension(32)), 0), min(math.ceil(dimension(1)), size - 1)
    result = []
    for i in range(size // 2):
        gamma = 1 - min(1, max(0, (i - low) / (high - low)))
        result.append(base ** (-2 * i / size) * ((1 - gamma) / scale + gamma))
    return result


@pytest.mark.parametrize("scale", [1, 2, 16, 32])
def test_yarn_follows_its_formula(decoder: Path, scale: int) -> None:
    model = load(decoder, f"yarn:{scale}")
    rotary = model.model.rotary_emb
    assert model.window == 4096 * scale
    assert rotary.inv_freq.tolist() == pytest.approx(frequencies(scale), rel=1e-5)
    assert rotary.attention_scaling == pytest.approx(0.1 * math.log(scale) + 1)
    plain = load(decoder).model.rotary_emb.inv_freq
    ratios = (rotary.inv_freq / plain).tolist()
    assert (ratios[0], ratios[-1]) == pytest.approx((1, 1 / scale), rel=1e-5)


def test_a_factor_of_1_changes_nothing(decoder: Path) -> None:
    expected = load(decoder)(IDS).logits
    for kind in ("yarn", "linear"):
        torch.testing.assert_close(load(decoder, f"{kind}:1")(IDS).logits, expected)


def test_linear_places_every_eighth_position_where_the_plain_decoder_places_each(decoder: Path) -> None:
    positions = torch.arange(25)[None]
    plain, linear = load(decoder), load(decoder, "linear:8")
    torch.testing.assert_close(
        linear(IDS, position_ids=8 * positions).logits, plain(IDS, position_ids=positions).logits, atol=1e-4, rtol=1e-4
    )
    assert not torch.allclose(linear(IDS).logits, plain(IDS).logits, atol=1e-3)


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_a_checkpoint_brings_its_own_scaling(decoder: Path, tmp_path: Path, key: str) -> None:
    values = json.loads((decoder / "config.json").read_text())
    del values["rope_parameters"]
    yarn = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096, "rope_theta": 10_000.0}
    changed = {**values, key: yarn, "max_position_embeddings": 65_536}
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_text(json.dumps(changed))
    (copy / "model.safetensors").write_bytes((decoder / "model.safetensors").read_bytes())
    model = load(copy)
    assert model.window == 65_536
    assert model.model.rotary_emb.inv_freq.tolist() == pytest.approx(frequencies(16), rel=1e-5)
    with pytest.raises(ConfigError, match="the decoder's own positions are yarn"):
        load(copy, "linear:2")
    del yarn["original_max_position_embeddings"]
    (copy / "config.json").write_text(json.dumps(changed))
    with pytest.raises(ModelError, match="original_max_position_embeddings"):
        load(copy)


@pytest.mark.parametrize("value", ["yarn", "yarn:0", "yarn:-1", "linear:x", "ntk:4", "yarn:1e9", "linear:0.5"])
def test_settings_out_of_range_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"rope_scaling: .* does not have the form"):
        checked(ModelOptions, {"rope_scaling": value})


def test_a_stretched_decoder_runs_on_torch(decoder: Path) -> None:
    options = ModelOptions(model=str(decoder), device="cpu", rope_scaling="yarn:2")
    assert choose_backend(options) == ("torch", "rope_scaling is yarn:2")
