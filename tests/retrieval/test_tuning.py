"""Tuning measures recall against exact search and keeps the fastest settings that reach it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ragx.cli.main import app
from ragx.config import IndexSettings
from ragx.errors import ConfigError, IndexFolderError
from ragx.index import Index, build_index, read_manifest, update_index, verify
from ragx.retrieval import Retriever, tune_index
from ragx.retrieval.tuning import exact_nearest
from tests.helpers.toy_embedders import NumberEmbedder, passages


def clustered(number: int, dimension: int = 16) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.standard_normal((20, dimension))
    noise = 0.3 * random.standard_normal((number, dimension))
    return (centres[random.integers(0, 20, number)] + noise).astype(np.float32)


def build(folder: Path, vectors: np.ndarray, **values: object) -> Path:
    texts = passages([" ".join(map(repr, row)) for row in vectors.tolist()])
    build_index(texts, folder, NumberEmbedder(vectors.shape[1]), IndexSettings.model_validate(values), quiet=True)
    return folder


def recall_of(folder: Path, vectors: np.ndarray, k: int) -> float:
    """Against brute force, over every 17th passage, itself left out."""
    retriever = Retriever(Index.open(folder))
    shares = []
    for row in range(0, len(vectors), 17):
        order = np.argsort(-(vectors @ vectors[row]), kind="stable")
        expected = [other for other in order.tolist() if other != row][:k]
        found = {other for other, _ in retriever.nearest(vectors[row], k + 1)} - {row}
        shares.append(len(found & set(expected)) / k)
    return float(np.mean(shares))


@pytest.mark.parametrize(
    "faiss", ["hnsw", pytest.param("ivfpq", marks=pytest.mark.slow), "IVF16,Flat", "SQ4", "binary"]
)
def test_the_fastest_setting_that_reaches_the_recall_is_chosen(tmp_path: Path, faiss: str) -> None:
    vectors = clustered(1200)
    folder = build(tmp_path, vectors, faiss=faiss, shard_size=700)
    tuning = tune_index(folder, 0.9, k=5)
    enough = [trial for trial in tuning.trials if trial.recall >= 0.9]
    assert tuning.chosen.p50 == min(trial.p50 for trial in enough)
    assert all(trial.p50 <= trial.p95 for trial in tuning.trials)
    assert read_manifest(folder).settings.search == tuning.chosen.search
    assert recall_of(folder, vectors, 5) >= 0.85  # other questions than those it was tuned on


def test_tuning_publishes_a_generation_that_later_updates_keep(tmp_path: Path) -> None:
    folder = build(tmp_path, clustered(600), faiss="IVF16,Flat", shard_size=400)
    before = read_manifest(folder)
    chosen = tune_index(folder, 0.5).chosen.search
    verify(folder)
    after = read_manifest(folder)
    assert (after.files, after.shards, after.counts) == (before.files, before.shards, before.counts)
    assert (folder / "CURRENT").read_text() == "gen-0002\n"
    update_index(folder, delete=["doc3#0"], quiet=True)
    assert read_manifest(folder).settings.search == chosen


def test_exact_search_leaves_out_the_question_itself_and_deleted_passages(tmp_path: Path) -> None:
    vectors = clustered(60)
    folder = build(tmp_path, vectors, shard_size=25)
    update_index(folder, delete=["doc7#0", "doc30#0"], quiet=True)
    index = Index.open(folder)
    drawn = np.array([0, 20, 59])
    for row, found in zip(drawn, exact_nearest(index, vectors[drawn], 9, without=drawn), strict=True):
        order = np.argsort(-(vectors @ vectors[row]), kind="stable").tolist()
        assert found.tolist() == [other for other in order if other not in (row, 7, 30)][:9]


def test_a_mistake_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    exact = build(tmp_path / "exact", clustered(30))
    with pytest.raises(IndexFolderError, match="searched exactly"):
        tune_index(exact, 0.9)
    scattered = np.random.default_rng(0).standard_normal((600, 32)).astype(np.float32)
    coarse = build(tmp_path / "coarse", scattered, faiss="PQ1")
    with pytest.raises(ConfigError, match="rerank 16"):
        tune_index(coarse, 1.0)
    with pytest.raises(IndexFolderError, match="600 passages"):
        tune_index(coarse, 0.9, k=600)
    for recall in (0, 1.01):
        with pytest.raises(ConfigError, match="recall must be"):
            tune_index(coarse, recall)
    assert (coarse / "CURRENT").read_text() == (exact / "CURRENT").read_text() == "gen-0001\n"


def test_the_command_prints_the_trials_and_the_choice(tmp_path: Path) -> None:
    folder = build(tmp_path, clustered(600), faiss="hnsw")
    shown = CliRunner().invoke(app, ["index", "tune", "--index", str(folder), "--recall", "0.9"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("<- chosen") == 1
    tuned = CliRunner().invoke(app, ["index", "tune", "--index", str(folder), "--recall", "0.9", "-k", "3", "--json"])
    values = json.loads(tuned.stdout)
    assert values["search"] == read_manifest(folder).settings.search.model_dump()
    assert {"search", "recall", "p50", "p95"} == values["trials"][0].keys()
