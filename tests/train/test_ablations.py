"""Each switch of the ablations changes what it says it changes, and nothing else of the data or the start."""

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
    """The log of two steps, and what the reader adds to its decoder after them."""
    run_recipe(recipe, out, tiny_settings(recipe, decoder, out.parent, "loop.steps=2", *overrides))
    return record.read(out), load_file(out / "reader" / "model.safetensors")


def first_loss(log: list[dict[str, float]]) -> float:
    return log[0]["loss"]


def test_a_frozen_encoder_ends_as_it_starts_and_cross_attention_does_not(decoder: Path, tmp_path: Path) -> None:
    start = load_file(decoder / "model.safetensors")
    usual, frozen = (
        run(decoder, tmp_path / value, f"model.frozen_encoder={value}", "loop.learning_rate=0.1")
        for value in ("false", "true")
    )
    assert first_loss(usual[0]) == first_loss(frozen[0])
    for kind, (_, weights) in (("usual", usual), ("frozen", frozen)):
        for name, weight in weights.items():
            if name.startswith("encoder.layers.0."):
                source = start[name.replace("encoder.layers.0.", "model.layers.0.")]
                assert torch.equal(weight, source) == (kind == "frozen"), name
            elif name.endswith("cross_attn.o_proj.weight"):
                own = start[name.replace("cross_attn", "self_attn")]
                assert not torch.allclose(weight, 0.3 * own)


def test_a_random_encoder_starts_elsewhere_on_the_same_data(decoder: Path, tmp_path: Path) -> None:
    usual, _ = run(decoder, tmp_path / "usual")
    random, _ = run(decoder, tmp_path / "random", "model.random_encoder=true")
    assert first_loss(random) != pytest.approx(first_loss(usual), rel=1e-4)
    assert [each.get("encoder_tokens") for each in random] == [each.get("encoder_tokens") for each in usual]


def test_without_warm_up_a_run_starts_from_the_decoder(decoder: Path, tmp_path: Path) -> None:
    warmed = tiny_settings("warmup", decoder, tmp_path)
    run_recipe("warmup", tmp_path / "warmup", warmed)
    without, _ = run(decoder, tmp_path / "without", "model.init_from=null")
    after, _ = run(decoder, tmp_path / "after", f"model.init_from={tmp_path / 'warmup'}")
    assert first_loss(after) < first_loss(without) - 1, "it knows the documents' words"
    assert [each.get("encoder_tokens") for each in after] == [each.get("encoder_tokens") for each in without]


@pytest.mark.parametrize(("kl", "cross_entropy"), [(0, 1), (1, 1), (2, 1), (2, 0)])
def test_a_coefficient_weighs_its_loss_and_0_leaves_it_out(
    kl: int, cross_entropy: int, decoder: Path, tmp_path: Path
) -> None:
    log, _ = run(decoder, tmp_path / "out", f"kl={kl}", f"cross_entropy={cross_entropy}", recipe="ceped")
    assert ("kl" in log[0], "cross_entropy" in log[0]) == (kl > 0, cross_entropy > 0)
    parts = kl * log[0].get("kl", 0) + cross_entropy * log[0].get("cross_entropy", 0)
    assert first_loss(log) == pytest.approx(parts, rel=1e-6)
