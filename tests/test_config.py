"""Settings: YAML and overrides in, checked models out; every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.config import Chunking, IndexSettings, WheelFile, load_settings
from ragx.errors import ConfigError


def test_defaults_are_the_papers_hundred_words() -> None:
    assert load_settings(IndexSettings, None).chunking == Chunking(unit="words", size=100, overlap=0)


def test_a_dotted_override_changes_one_value(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("encoder: contriever\nchunking: {size: 50, overlap: 10}\n")
    settings = load_settings(IndexSettings, recipe, ["--chunking.size=64", "faiss=HNSW32"])
    assert settings.chunking == Chunking(size=64, overlap=10)
    assert (settings.encoder, settings.faiss) == ("contriever", "HNSW32")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("chunk: {}", [], "unknown setting 'chunk'"),
        ("chunking: {sise: 3}", [], r"unknown setting 'chunking\.sise'"),
        ("shard_size: many", [], "shard_size: "),
        ("shard_size: 0", [], "shard_size: "),
        ("chunking: {size: 5, overlap: 5}", [], r"overlap \(5\) must be smaller than size \(5\)"),
        ("- a list", [], "must be a mapping"),
        ("a: [", [], "not valid YAML"),
        ("faiss: Flat\nfaiss: HNSW32", [], "'faiss' is given twice"),
        ("sources: [notes, 3]", [], r"sources\.1: must be a path, a wheel's file or a dataset"),
        ("", ["chunking.size=1", "chunking.size=2"], "given twice"),
        ("", ["chunking.size"], "not of the form"),
        ("encoder: a", ["encoder.name=x"], "single value"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(IndexSettings, recipe, overrides)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml"):
        load_settings(IndexSettings, tmp_path / "absent.yaml")


def test_every_shipped_recipe_loads() -> None:
    recipes = sorted((Path(__file__).parents[1] / "indexes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        assert load_settings(IndexSettings, recipe).sources


def test_the_sample_recipe_names_a_file_in_a_wheel() -> None:
    recipe = Path(__file__).parents[1] / "indexes" / "wikipedia-sample.yaml"
    (source,) = load_settings(IndexSettings, recipe).sources
    assert isinstance(source, WheelFile)
