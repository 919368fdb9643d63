"""How a recipe is run does not change what it learns; the reader records its context length."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from ragx_train.engine import log as record
from safetensors.torch import load_file

from ragx import cepe
from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents

pytestmark = pytest.mark.slow
SHORT = ("loop.steps=6", "loop.validate_every=3", "loop.validation_examples=2")


def run(recipe: str, decoder: Path, out: Path, *overrides: str, resume: bool = False, stop: bool = False) -> None:
    """A short run on the documents beside `out`; with `stop` its time limit is reached after one step."""
    settings = tiny_settings(recipe, decoder, out.parent, *SHORT, *overrides)
    run_recipe(recipe, out, settings, resume=resume, deadline=time.monotonic() if stop else None)


def assert_same(one: Path, other: Path, *, rel: float = 1e-5) -> None:
    """The same data in every step, and close losses and weights."""
    logs = [record.read(out) for out in (one, other)]
    for ours, theirs in zip(*logs, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() & {"step", "tokens"}:
            assert ours[name] == theirs[name]
        if "encoder_tokens" in ours:  # a passage that several examples of a micro-batch read is encoded once
            assert ours["encoder_tokens"] == pytest.approx(theirs["encoder_tokens"], rel=0.05)
        for name in ours:
            if "loss" in name or name.endswith(("kl", "cross_entropy")):
                assert ours[name] == pytest.approx(theirs[name], rel=rel), name
    weights, expected = (load_file(out / "reader" / "model.safetensors") for out in (one, other))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=max(1e-4, rel))


@pytest.fixture(autouse=True)
def _documents(tmp_path: Path) -> None:
    write_documents(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [("mlm", ["loop.workers=2"]), ("cepe", ["loop.workers=2"]), ("ceped", []), ("ceped", ["teacher.store=true"])],
)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    recipe: str, overrides: list[str], decoder: Path, tmp_path: Path
) -> None:
    run(recipe, decoder, tmp_path / "whole", *(each for each in overrides if "workers" not in each))
    run(recipe, decoder, tmp_path / "parts", *overrides, stop=True)
    assert len([each for each in record.read(tmp_path / "parts") if "loss" in each]) == 1
    run(recipe, decoder, tmp_path / "parts", *overrides, resume=True)
    assert_same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(
    ("override", "rel"),
    [
        ("loop.workers=2", 1e-5),
        ("loop.activation_checkpointing=true", 1e-5),
        ("loop.micro_batch=8", 1e-5),
        ("teacher.store=true", 3e-3),  # probabilities in fp16
    ],
)
def test_distillation_is_the_same_however_it_is_run(override: str, rel: float, decoder: Path, tmp_path: Path) -> None:
    run("ceped", decoder, tmp_path / "plain")
    run("ceped", decoder, tmp_path / "other", override)
    assert_same(tmp_path / "other", tmp_path / "plain", rel=rel)
    stored = list((tmp_path / "ragx-home").glob("teacher/*/*/*.safetensors"))
    assert len(stored) == (6 * 8 + 2 if "store" in override else 0), "one for each text, validation included"


def test_distillation_logs_both_losses(decoder: Path, tmp_path: Path) -> None:
    run("ceped", decoder, tmp_path / "out", "kl=2", "cross_entropy=0.5")
    log = record.read(tmp_path / "out")
    for each in log:
        if "loss" in each:
            assert each["loss"] == pytest.approx(0.5 * each["cross_entropy"] + 2 * each["kl"], rel=1e-6)
        else:
            assert each["validation_loss"] == each["validation_cross_entropy"]
            assert each["validation_kl"] > 0
    assert sum("validation_kl" in each for each in log) == 2
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    for name in ("kl", "cross_entropy", "validation_kl", "validation_cross_entropy"):
        assert [event.value for event in board.Scalars(name)] == pytest.approx([e[name] for e in log if name in e])


def trained_context(out: Path) -> int | None:
    reader = cepe.load(str(out / "reader"), dtype="float32", device="cpu")
    return getattr(reader.config, "trained_context_tokens", None)


def test_a_reader_records_the_longest_context_of_all_its_stages(decoder: Path, tmp_path: Path) -> None:
    run("mlm", decoder, tmp_path / "mlm")
    assert trained_context(tmp_path / "mlm") is None, "its cross-attention has not been trained"
    run("warmup", decoder, tmp_path / "warmup", f"model.init_from={tmp_path / 'mlm'}")
    assert trained_context(tmp_path / "warmup") == 32
    unmasked = ["masking.chunk=0", f"model.init_from={tmp_path / 'warmup'}"]
    run("cepe", decoder, tmp_path / "long", "encoder_tokens=56", *unmasked, stop=True)
    run("cepe", decoder, tmp_path / "long", "encoder_tokens=56", *unmasked, resume=True)
    assert trained_context(tmp_path / "long") == 56
    run("cepe", decoder, tmp_path / "short", "encoder_tokens=16", *unmasked)
    assert trained_context(tmp_path / "short") == 32


def test_contexts_longer_than_in_an_earlier_stage_scale_no_scores(decoder: Path, tmp_path: Path) -> None:
    run("warmup", decoder, tmp_path / "warmup")
    initial = f"model.init_from={tmp_path / 'warmup'}"
    run("cepe", decoder, tmp_path / "one", initial)
    path = tmp_path / "warmup" / "reader" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trained_context_tokens": 2}))
    run("cepe", decoder, tmp_path / "other", initial)
    assert_same(tmp_path / "one", tmp_path / "other")
