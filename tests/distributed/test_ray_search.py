"""Search by actors that own shards finds what local search finds, and says what it could not search."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from ragx.cli.render import hits_json
from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index import Index, build_index, update_index
from ragx.retrieval import Retriever, SearchResults
from tests.helpers.toy_embedders import WordEmbedder, passages

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

COLOURS, ANIMALS = ["red", "blue", "green", "grey"], ["fox", "owl", "elk"]
TEXTS = [f"{colour} {animal} {n}" for n, colour in enumerate(COLOURS) for animal in ANIMALS]
QUESTIONS = ["red fox", "blue", "owl 2", "elk grey 3 green"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """12 passages in 4 shards, the second and the fourth without one that was deleted."""
    folder = tmp_path_factory.mktemp("index")
    build_index(passages(TEXTS), folder, WordEmbedder(), IndexSettings(shard_size=3), quiet=True)
    update_index(folder, delete=["doc4#0", "doc11#0"], quiet=True)
    return Index.open(folder)


@pytest.fixture(scope="module")
def retriever(index: Index, cluster: None) -> Iterator[distributed.RayRetriever]:
    with distributed.RayRetriever(index, WordEmbedder(), actors=2) as opened:
        yield opened


@pytest.mark.parametrize("method", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_hits_are_those_of_local_search(retriever: distributed.RayRetriever, index: Index, k: int, method: str) -> None:
    here = Retriever(index, WordEmbedder())
    for question in QUESTIONS:
        found = retriever.search(question, k, method)
        assert found == here.search(question, k, method)
        assert found
        assert (found.unsearched, found.notes) == (0, [])


def lost_with(index: Index, owned: list[int]) -> set[str]:
    """Ids of the passages of some shards."""
    rows = [shard.offset + row for shard in (index.shards[n] for n in owned) for row in range(len(shard.vectors))]
    return {index.passage(row).id for row in rows}


def test_a_stopped_actor_is_reported_and_used_again_when_it_is_back(
    retriever: distributed.RayRetriever, index: Index, kill_worker: Callable[[int], None]
) -> None:
    here = Retriever(index, WordEmbedder()).search("red fox", 100, "dense")
    rest = [hit for hit in here if hit.passage.id not in lost_with(index, [1, 3])]
    pid = ray.get(retriever._actors[1].__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGSTOP)
    retriever.patience = 3
    found = retriever.search("red fox", 100, "dense")
    assert found == rest
    assert found.unsearched == pytest.approx(1 - len(rest) / len(here))
    assert found.notes == ["40.0% of the passages were not searched by vector: their workers are lost"]
    assert json.loads(hits_json("red fox", found))["notes"] == found.notes
    assert {hit.passage.id for hit in retriever.search("red fox", 100)} > {hit.passage.id for hit in rest}  # BM25's too

    kill_worker(pid)
    retriever.patience = 60
    deadline = time.monotonic() + 60
    while (found := retriever.search("red fox", 100, "dense")).unsearched and time.monotonic() < deadline:
        assert found == rest
        time.sleep(0.1)
    assert found == here


def test_without_any_actor_bm25_still_answers(index: Index) -> None:
    with distributed.RayRetriever(index, WordEmbedder(), actors=1) as opened:
        ray.kill(opened._actors[0])
        deadline = time.monotonic() + 60
        while not (found := opened.search("red fox", 5)).unsearched and time.monotonic() < deadline:
            time.sleep(0.1)  # Ray kills in its own time
        assert (found.unsearched, opened.search("red fox", 5, "dense")) == (1.0, [])
        assert [hit.passage.id for hit in found] == [
            hit.passage.id for hit in Retriever(index).search("red fox", 5, "bm25")
        ]


def test_a_generation_that_the_nodes_cannot_open_is_one_line(index: Index, tmp_path: Path) -> None:
    build_index(passages(TEXTS), tmp_path, WordEmbedder(), IndexSettings(), quiet=True)
    gone = Index.open(tmp_path)
    shutil.rmtree(tmp_path / gone.generation)
    with pytest.raises(IndexFolderError, match=r"on node .*: cannot read .*manifest.json"):
        distributed.RayRetriever(gone, WordEmbedder())


def test_an_answer_says_what_was_not_searched() -> None:
    assert SearchResults([1, 2], 1 / 3).notes == [
        "33.3% of the passages were not searched by vector: their workers are lost"
    ]
    assert SearchResults([1, 2]).notes == []
