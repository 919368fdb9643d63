"""Each ablation changes what it claims to, and neither the data nor the rest of the initial reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ragx_train.engine import log as record
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents


@pytest.fixture(autouse=True)
def _documents(tmp_path: Path) -> None:
    write_documents(tmp_path)


def run(
    decoder: Path, out: Path, *overrides: str, recipe: str = "cepe"
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The log of two steps, and the weights that the reader then adds to its decoder."""
    run_recipe(recipe, out, tiny_settings(recipe, decoder, out.parent, "loop.steps=2", *overrides))
    return record.read(out), load_file(out / "reader" / "model.safetensors")


def first_loss(log: list[dict[str, float]]) -> float:
    return log[0]["loss"]


def test_a_frozen_encoder_keeps_its_weights_and_cross_attention_does_not(decoder: Path, tmp_path: Path) -> None:
    initial = load_file(decoder / "model.safetensors")
    trained, frozen = (
        run(decoder, tmp_path / value, f"model.frozen_encoder={value}", "loop.learning_rate=0.1")
        for value in ("false", "true")
    )
    assert first_loss(trained[0]) == pytest.approx(first_loss(frozen[0]), rel=1e-5)
    for kind, (_, weights) in (("trained", trained), ("frozen", frozen)):
        for name, weight in weights.items():
            if name.startswith("encoder.layers.0."):
                source = initial[name.replace("encoder.layers.0.", "model.layers.0.")]
                assert torch.allclose(weight, source) == (kind == "frozen"), name
            elif name.endswith("cross_attn.o_proj.weight"):
                copied = initial[name.replace("cross_attn", "self_attn")]
                assert not torch.allclose(weight, 0.3 * copied)


def test_a_random_encoder_has_another_loss_on_the_same_data(decoder: Path, tmp_path: Path) -> None:
    copied, _ = run(decoder, tmp_path / "copied")
    random, _ = run(decoder, tmp_path / "random", "model.random_encoder=true")
    assert first_loss(random) != pytest.approx(first_loss(copied), rel=1e-4)
    assert [each.get("encoder_tokens") for each in random] == [each.get("encoder_tokens") for each in copied]


def test_a_run_without_warm_up_starts_with_a_higher_loss(decoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings("warmup", decoder, tmp_path)
    run_recipe("warmup", tmp_path / "warmup", settings)
    without, _ = run(decoder, tmp_path / "without", "model.init_from=null")
    after, _ = run(decoder, tmp_path / "after", f"model.init_from={tmp_path / 'warmup'}")
    assert first_loss(after) < first_loss(without) - 1, "it has learned the words of the documents"
    assert [each.get("encoder_tokens") for each in after] == [each.get("encoder_tokens") for each in without]


@pytest.mark.parametrize(("kl", "cross_entropy"), [(0, 1), (1, 1), (2, 1), (2, 0)])
def test_a_coefficient_weights_its_loss_and_0_omits_it(
    kl: int, cross_entropy: int, decoder: Path, tmp_path: Path
) -> None:
    log, _ = run(decoder, tmp_path / "out", f"kl={kl}", f"cross_entropy={cross_entropy}", recipe="ceped")
    assert ("kl" in log[0], "cross_entropy" in log[0]) == (kl > 0, cross_entropy > 0)
    parts = kl * log[0].get("kl", 0) + cross_entropy * log[0].get("cross_entropy", 0)
    assert first_loss(log) == pytest.approx(parts, rel=1e-6)
