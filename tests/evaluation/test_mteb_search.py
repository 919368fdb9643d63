"""MTEB's retrieval tasks over ragx's index and search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mteb", reason="MTEB needs `pip install 'ragx[mteb]'`, of 270 MB")

import mteb
from datasets import Dataset
from mteb import TaskMetadata
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models import SearchProtocol

from ragx.config import Chunking, IndexSettings
from ragx.errors import ConfigError
from ragx.evaluation.mteb_search import RagxSearch
from ragx.indexing.build import build
from ragx.retrieval import open_index
from tests.evaluation.conftest import text, write_rows

CORPUS = [
    {"id": "snow", "title": "Snow", "text": "Fresh snow reflects up to 90 percent of the sunlight that reaches it."},
    {"id": "soil", "title": "Soil", "text": "Dark soil absorbs most of the light that falls on it."},
    {"id": "long", "title": "", "text": f"{text(1, 30)} Lava lies in Bern. {text(2, 30)} Rome lies on seven hills."},
    {"id": "again", "title": "Soil", "text": "Dark soil absorbs most of the light that falls on it."},
]
QUERIES = [
    {"id": "q1", "text": "How much sunlight does fresh snow reflect?"},
    {"id": "q2", "text": "On how many hills does Rome lie?"},
    {"id": "q3", "text": "Which soil absorbs light?"},
]
QRELS = {"q1": {"snow": 1}, "q2": {"long": 1}, "q3": {"soil": 1, "again": 1}}
SETTINGS = IndexSettings(chunking=Chunking(size=20))


class SnowRetrieval(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="SnowRetrieval",
        description="Three questions on four documents.",
        dataset={"path": "none", "revision": "1"},
        reference=None,
        type="Retrieval",
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, **_: Any) -> None:
        queries, corpus = Dataset.from_list(QUERIES), Dataset.from_list(CORPUS)
        split = {"queries": queries, "corpus": corpus, "relevant_docs": QRELS, "top_ranked": None}
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


@pytest.fixture(scope="module")
def opened() -> Callable[..., RagxSearch]:
    def open_search(settings: IndexSettings | None = SETTINGS, **options: Any) -> RagxSearch:
        search = RagxSearch(settings, device="cpu", **options)
        search.index(CORPUS)
        return search

    return open_search


def test_a_task_runs_from_end_to_end(opened: Callable[..., RagxSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    search = opened()
    assert isinstance(search, SearchProtocol)
    (result,) = mteb.evaluate(search, SnowRetrieval(), cache=None, show_progress_bar=False).task_results
    (scores,) = result.scores["test"]
    assert scores["ndcg_at_10"] == pytest.approx(1)
    assert scores["recall_at_5"] == pytest.approx(1)


@pytest.mark.parametrize("method", ["dense", "bm25", "hybrid"])
def test_documents_are_those_of_ragx_by_their_best_passages(
    opened: Callable[..., RagxSearch], method: Any, tmp_path: Path
) -> None:
    corpus = write_rows(tmp_path / "corpus.jsonl", CORPUS[:3])
    build([corpus], tmp_path / "index", SETTINGS, device="cpu")
    retriever = open_index(tmp_path / "index", device="cpu").retriever
    search = opened(method=method)
    search.index(CORPUS[:3])
    results = search.search(QUERIES, top_k=10)
    for query in QUERIES:
        expected: dict[str, float] = {}
        for hit in retriever.search(query["text"], 10, method):
            expected[hit.passage.document] = max(hit.score, expected.get(hit.passage.document, 0))
        assert results[query["id"]] == pytest.approx(expected)
    assert len(retriever.index) > len(CORPUS[:3])


def test_only_the_documents_to_rank_are_searched(opened: Callable[..., RagxSearch]) -> None:
    ranked = {"q1": ["soil", "long"], "q2": ["long"], "q3": ["again", "snow"]}
    results = opened().search(QUERIES, top_k=10, top_ranked=ranked)
    assert {query: set(found) for query, found in results.items()} == {name: {*ids} for name, ids in ranked.items()}


def test_a_reranker_orders_the_documents(opened: Callable[..., RagxSearch]) -> None:
    results = opened(rerank="auto").search(QUERIES, top_k=10)
    best = {query: max(scores, key=lambda document: scores[document]) for query, scores in results.items()}
    assert best["q1"] == "snow"
    assert best["q2"] == "long"
    assert best["q3"] in ("soil", "again")


def test_an_instruction_is_searched_with_its_query(opened: Callable[..., RagxSearch]) -> None:
    search = opened(method="bm25")
    alone, instructed = (
        search.search([{"id": "q", "text": "Rome", **more}], top_k=10)["q"] for more in ({}, {"instruction": "snow"})
    )
    assert "snow" not in alone
    assert "snow" in instructed


def test_results_of_other_settings_have_another_revision(opened: Callable[..., RagxSearch]) -> None:
    metas = [opened(**options).mteb_model_meta for options in ({}, {"method": "dense"}, {"settings": IndexSettings()})]
    assert len({meta.revision for meta in metas}) == 3
    assert metas[0].name == "ragx/all-minilm-l6-v2-hybrid"


def test_what_is_not_text_is_an_error(opened: Callable[..., RagxSearch]) -> None:
    search = opened()
    with pytest.raises(ConfigError, match="q is not a text"):
        search.search([{"id": "q", "text": [{"role": "user", "content": "snow"}]}], top_k=3)
    with pytest.raises(ConfigError, match="picture is not a text"):
        search.index([{"id": "picture"}])
    with pytest.raises(ConfigError, match="index a corpus first"):
        search.search(QUERIES, top_k=3)
