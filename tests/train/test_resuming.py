"""A run does not resume if its data or models have changed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from ragx_train.engine import log as record
from ragx_train.settings import RecipeSettings
from safetensors.torch import load_file, save_file

from ragx.errors import ConfigError
from tests.helpers.tiny_runs import run_recipe, text, tiny_settings, write_documents, write_questions, write_rows

pytestmark = pytest.mark.slow
SHORT = ("loop.steps=3", "loop.validation_examples=2")


def start(recipe: str, out: Path, settings: RecipeSettings) -> None:
    """One step of a run."""
    run_recipe(recipe, out, settings, deadline=time.monotonic())


def refused(recipe: str, out: Path, settings: RecipeSettings, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"{what}: its content has changed"):
        run_recipe(recipe, out, settings, resume=True)
    assert len([each for each in record.read(out) if "loss" in each]) == 1


def append(path: Path, row: dict[str, object]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


@pytest.mark.parametrize("recipe", ["mlm", "warmup", "cepe", "ceped"])
def test_added_documents(recipe: str, decoder: Path, tmp_path: Path) -> None:
    path = write_documents(tmp_path)
    before = path.read_text()
    settings = tiny_settings(recipe, decoder, tmp_path, *SHORT)
    start(recipe, tmp_path / "out", settings)
    append(path, {"text": text(1000, 300), "domain": "a"})
    refused(recipe, tmp_path / "out", settings, r"data\.sources")
    path.write_text(before)  # the same texts, with another time of change
    run_recipe(recipe, tmp_path / "out", settings, resume=True)


def test_changed_domains_or_order_of_documents(decoder: Path, tmp_path: Path) -> None:
    path = write_documents(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    settings = tiny_settings("warmup", decoder, tmp_path, *SHORT)
    start("warmup", tmp_path / "out", settings)
    for changed in ([*rows[1:], rows[0]], [{**rows[0], "domain": "b"}, *rows[1:]]):
        write_rows(path, changed)
        refused("warmup", tmp_path / "out", settings, r"data\.sources")


def test_edited_questions(decoder: Path, tmp_path: Path) -> None:
    path = write_questions(tmp_path)
    settings = tiny_settings("qa", decoder, tmp_path, *SHORT)
    start("qa", tmp_path / "out", settings)
    path.write_text(path.read_text().replace("What is the word?", "Which word is it?"))
    refused("qa", tmp_path / "out", settings, r"data\.files")


def test_changed_weights_of_the_initial_reader(decoder: Path, tmp_path: Path) -> None:
    """Even frozen ones, which no checkpoint contains."""
    write_documents(tmp_path)
    run_recipe("mlm", tmp_path / "mlm", tiny_settings("mlm", decoder, tmp_path, "loop.steps=1"))
    changed = (f"model.init_from={tmp_path / 'mlm'}", "model.frozen_encoder_layers=1")
    settings = tiny_settings("warmup", decoder, tmp_path, *changed, *SHORT)
    start("warmup", tmp_path / "out", settings)
    path = tmp_path / "mlm" / "reader" / "model.safetensors"
    weights = load_file(path)
    weights["encoder.layers.0.mlp.up_proj.weight"] *= 2
    save_file(weights, path)
    refused("warmup", tmp_path / "out", settings, r"model\.init_from")


def test_changed_weights_of_the_decoder(decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    own = Path(shutil.copytree(decoder, tmp_path / "decoder"))
    settings = tiny_settings("warmup", own, tmp_path, *SHORT)
    start("warmup", tmp_path / "out", settings)
    weights = load_file(own / "model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, own / "model.safetensors", {"format": "pt"})
    refused("warmup", tmp_path / "out", settings, r"model\.decoder")
