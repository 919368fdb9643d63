"""Settings from YAML and overrides: checked values, and named mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import Chunking, IndexSettings, WheelFile
from ragx.errors import ConfigError
from ragx.util.settings import load_settings


def test_defaults_are_the_papers_hundred_words() -> None:
    assert load_settings(IndexSettings, None).chunking == Chunking(unit="words", size=100, overlap=0)


def test_a_dotted_override_changes_one_value(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("embedder: contriever\nchunking: {size: 50, overlap: 10}\n")
    settings = load_settings(IndexSettings, recipe, ["--chunking.size=64", "faiss=HNSW32"])
    assert settings.chunking == Chunking(size=64, overlap=10)
    assert (settings.embedder, settings.faiss) == ("contriever", "HNSW32")


def test_values_from_options_are_not_parsed_as_yaml(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("embedder: contriever\nshard_size: 3\n")
    settings = load_settings(IndexSettings, recipe, [], {"embedder": "no: \x7f\u2028\U0001f4c1", "exclude": ["*"]})
    assert (settings.embedder, settings.exclude, settings.shard_size) == ("no: \x7f\u2028\U0001f4c1", ["*"], 3)
    with pytest.raises(ConfigError, match="embedder is given twice"):
        load_settings(IndexSettings, recipe, ["--embedder=a"], {"embedder": "a"})


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("chunk: {}", [], "'chunk'"),
        ("chunking: {sise: 3}", [], "'chunking.sise'; did you mean size[?]"),
        ("shard_sise: 3", [], "'shard_sise'; did you mean shard_size[?]"),
        ("chunking: {owl: 3}", [], "'chunking.owl'$"),
        ("sources: [{dataset: x, colunm: y}]", [], "sources.0"),
        ("shard_size: many", [], "shard_size: "),
        ("shard_size: 0", [], "shard_size: "),
        ("chunking: {size: 5, overlap: 5}", [], "must be smaller"),
        ("- a list", [], "must be a mapping"),
        ("a: [", [], "not valid YAML"),
        ("faiss: Flat\nfaiss: HNSW32", [], "'faiss' is given twice"),
        ("sources: [notes, 3]", [], "sources.1: must be"),
        ("", ["chunking.size=1", "chunking.size=2"], "given twice"),
        ("", ["chunking.size"], "not of the form"),
        ("embedder: a", ["embedder.name=x"], "single value"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(IndexSettings, recipe, overrides)
    assert "\n" not in str(caught.value)


HOSTILE = {
    "an alias": "a: &a [1]\nsources: [*a]",
    "laughs": "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "merges": "a: &a {x: 1}\nb: {<<: [*a, *a]}",
    "depth": "[" * 2000,
    "an impossible date": "embedder: 2001-99-99",
    "an empty number": 'shard_size: !!int ""',
    "a long number": f"shard_size: {'9' * 5000}",
    "an unknown tag": "embedder: !!python/object/apply:os.system [id]",
    "a list as a key": "? [a]\n: b",
    "no UTF-8": "\udcff",
    "a control character": "embedder: \x00",
    "an empty boolean": 'embedder: !!bool ""',
    "no base64": "embedder: !!binary é",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_of_settings_is_one_line(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_settings(IndexSettings, recipe)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="valid YAML value"):
        load_settings(IndexSettings, None, [f"embedder={text}"])


def test_a_pipe_a_device_a_huge_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "great.yaml").write_text("# snow\n" * 200_000)
    for path, reason in {
        tmp_path / "pipe.yaml": "not a regular file",
        Path("/dev/zero"): "not a regular file",
        tmp_path / "great.yaml": "is larger than 1 MB",
        tmp_path / "absent.yaml": "cannot read",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            load_settings(IndexSettings, path)


RECIPE = b"""sources: [notes, {dataset: a/b, split: train}]
include: ['*.md']
chunking: {unit: words, size: 50, overlap: 10}
embedder: contriever
shard_size: 1000
"""


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(st.integers(0, len(RECIPE)), st.integers(0, 9), st.binary(max_size=6)).map(
            lambda cut: RECIPE[: cut[0]] + cut[2] + RECIPE[cut[0] + cut[1] :]
        ),
        st.text("[]{}&*!|>:-?,#'\"%@`<=~ \n\ta1", max_size=40).map(str.encode),
    )
)
def test_any_file_gives_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    recipe = tmp_path_factory.getbasetemp() / "any.yaml"
    recipe.write_bytes(data)
    message = str(recipe)
    try:
        load_settings(IndexSettings, recipe)
    except ConfigError as error:
        message = str(error)
    assert str(recipe) in message
    assert len(message.splitlines()) == 1


def test_every_shipped_recipe_loads() -> None:
    folder = Path(__file__).parents[2] / "indexes"
    sources = {recipe.stem: load_settings(IndexSettings, recipe).sources for recipe in folder.glob("*.yaml")}
    assert all(sources.values())
    assert isinstance(sources["wikipedia-sample"][0], WheelFile)
