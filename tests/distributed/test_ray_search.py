"""Search by actors gives the hits of local search, and reports what it could not search."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import ray

from ragx.cli.render import hits_json
from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index import Index, build_index, update_index
from ragx.retrieval import Retriever, SearchResults
from ragx.types import Hit
from tests.helpers.toy_embedders import WordEmbedder, passages

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

COLOURS, ANIMALS = ["red", "blue", "green", "grey"], ["fox", "owl", "elk"]
TEXTS = [f"{colour} {animal} {n}" for n, colour in enumerate(COLOURS) for animal in ANIMALS]
QUESTIONS = ["red fox", "blue", "owl 2", "elk grey 3 green"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """12 passages in 4 shards; one is deleted from the second and one from the fourth."""
    folder = tmp_path_factory.mktemp("index")
    build_index(passages(TEXTS), folder, WordEmbedder(), IndexSettings(shard_size=3), quiet=True)
    update_index(folder, delete=["doc4#0", "doc11#0"], quiet=True)
    return Index.open(folder)


@pytest.fixture(scope="module")
def index_of_shards(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """As `index`, with two lexical shards."""
    folder = tmp_path_factory.mktemp("shards")
    index_settings = IndexSettings(shard_size=3, lexical_shard_size=7)
    build_index(passages(TEXTS), folder, WordEmbedder(), index_settings, quiet=True)
    update_index(folder, delete=["doc4#0", "doc11#0"], quiet=True)
    return Index.open(folder)


@pytest.fixture(scope="module")
def retriever(index: Index, cluster: None) -> Iterator[distributed.RayRetriever]:
    with distributed.RayRetriever(index, WordEmbedder(), actors=2) as opened:
        yield opened


@pytest.mark.parametrize("method", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_hits_are_those_of_local_search(retriever: distributed.RayRetriever, index: Index, k: int, method: str) -> None:
    local = Retriever(index, WordEmbedder())
    for question in QUESTIONS:
        hits = retriever.search(question, k, method)
        assert hits
        assert_same_hits(hits, local.search(question, k, method))
        assert (hits.unsearched, hits.notes) == (0, [])


@pytest.mark.parametrize("actors", [1, 4])
def test_actors_search_lexical_shards(index_of_shards: Index, actors: int) -> None:
    local = Retriever(index_of_shards, WordEmbedder())
    selected = np.arange(12) % 3 != 1
    with distributed.RayRetriever(index_of_shards, WordEmbedder(), actors=actors) as opened:
        for question in QUESTIONS:
            for rows in (None, selected):
                expected = local.search(question, 6, "bm25", rows)
                assert expected
                assert_same_hits(opened.search(question, 6, "bm25", rows), expected)


def assert_same_hits(hits: Sequence[Hit], expected: Sequence[Hit]) -> None:
    assert [hit.passage for hit in hits] == [hit.passage for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], rel=1e-6)


def ids_in_shards(index: Index, numbers: list[int]) -> set[str]:
    rows = [shard.offset + row for shard in (index.shards[n] for n in numbers) for row in range(len(shard.vectors))]
    return {index.passage(row).id for row in rows}


def test_a_stopped_actor_is_reported_and_used_again_after_its_restart(
    retriever: distributed.RayRetriever, index: Index, kill_worker: Callable[[int], None]
) -> None:
    all_hits = Retriever(index, WordEmbedder()).search("red fox", 100, "dense")
    rest = [hit for hit in all_hits if hit.passage.id not in ids_in_shards(index, [1, 3])]
    pid = ray.get(retriever._actors[0][1].__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGSTOP)
    retriever.timeout = 3
    hits = retriever.search("red fox", 100, "dense")
    assert_same_hits(hits, rest)
    assert hits.unsearched == pytest.approx(1 - len(rest) / len(all_hits))
    (note,) = hits.notes
    assert "40.0% of the passages were not searched" in note
    assert json.loads(hits_json("red fox", hits))["notes"] == hits.notes
    hybrid = {hit.passage.id for hit in retriever.search("red fox", 100)}
    assert hybrid > {hit.passage.id for hit in rest}  # BM25 searches all shards

    kill_worker(pid)
    retriever.timeout = 60
    deadline = time.monotonic() + 60
    while (hits := retriever.search("red fox", 100, "dense")).unsearched and time.monotonic() < deadline:
        assert_same_hits(hits, rest)
        time.sleep(0.1)
    assert_same_hits(hits, all_hits)


def test_a_slow_actor_costs_little_with_a_replica(index: Index, kill_worker: Callable[[int], None]) -> None:
    expected = Retriever(index, WordEmbedder()).search("red fox", 100, "dense")
    with distributed.RayRetriever(index, WordEmbedder(), actors=1, replicas=2, timeout=60) as opened:
        pid = ray.get(opened._actors[1][0].__ray_call__.remote(lambda self: os.getpid()))
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        for _ in range(4):  # at most one starts with the stopped actor
            hits = opened.search("red fox", 100, "dense")
            assert_same_hits(hits, expected)
            assert hits.unsearched == 0
        assert time.monotonic() - began < 30
        kill_worker(pid)
        assert_same_hits(opened.search("red fox", 100, "dense"), expected)


@pytest.mark.parametrize("folder", ["index", "index_of_shards"])
def test_without_actors_bm25_still_finds_passages(folder: str, request: pytest.FixtureRequest) -> None:
    index: Index = request.getfixturevalue(folder)
    with distributed.RayRetriever(index, WordEmbedder(), actors=1) as opened:
        ray.kill(opened._actors[0][0])
        deadline = time.monotonic() + 60
        while not (hits := opened.search("red fox", 5)).unsearched and time.monotonic() < deadline:
            time.sleep(0.1)  # Ray kills asynchronously
        assert (hits.unsearched, opened.search("red fox", 5, "dense")) == (1.0, [])
        expected = Retriever(index).search("red fox", 5, "bm25")
        assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in expected]


def test_a_generation_that_nodes_cannot_open_is_reported(tmp_path: Path) -> None:
    build_index(passages(TEXTS), tmp_path, WordEmbedder(), IndexSettings(), quiet=True)
    deleted = Index.open(tmp_path)
    shutil.rmtree(tmp_path / deleted.generation)
    with pytest.raises(IndexFolderError, match="on node"):
        distributed.RayRetriever(deleted, WordEmbedder())


def test_search_results_report_what_was_not_searched() -> None:
    (note,) = SearchResults([1, 2], 1 / 3).notes
    assert "33.3% of the passages" in note
    assert SearchResults([1, 2]).notes == []
