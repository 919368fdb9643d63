"""A tiny run of every recipe learns, and writes all its outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ragx_train.engine import log as record

from ragx import cepe
from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents, write_questions


@pytest.mark.parametrize(
    ("recipe", "start", "end"),
    [("mlm", 8.32, 4.84), ("warmup", 7.70, 3.82), ("cepe", 7.65, 4.68), ("qa", 8.38, 4.15)],
)
def test_a_recipe_learns(recipe: str, start: float, end: float, decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    write_questions(tmp_path)
    out = tmp_path / "out"
    run_recipe(recipe, out, tiny_settings(recipe, decoder, tmp_path))
    losses = [each["loss"] for each in record.read(out) if "loss" in each]
    validation = [each["validation_loss"] for each in record.read(out) if "validation_loss" in each]
    reader = cepe.load(str(out / "reader"), dtype="float32", device="cpu")
    assert reader.is_trained
    assert (out / "loss.png").stat().st_size > 1000
    assert len(losses) == 30
    assert len(validation) == 3
    assert losses[0] == pytest.approx(start, abs=0.05)
    assert losses[-1] == pytest.approx(end, abs=0.2)
    assert validation[-1] < validation[0]
