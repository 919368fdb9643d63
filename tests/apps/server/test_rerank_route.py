"""`/v1/rerank` in the form that Jina's and Cohere's clients read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ragx.rag import RAG
from ragx.retrieval.rerankers.api import ApiReranker
from ragx.types import Passage
from tests.helpers.served import MODEL, Server, serving
from tests.helpers.tiny_cross_encoders import LengthReranker

DOCUMENTS = ["Snow is white and cold.", "Soil.", "Ice is cold."]


@pytest.fixture(scope="module")
def reranking(rag: RAG) -> Iterator[Server]:
    with serving(RAG(rag.retriever, rag.readers, reranker=LengthReranker())) as server:
        yield server


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_documents_are_sorted_by_relevance(reranking: Server, path: str) -> None:
    found = reranking.client.post(path, json={"query": "cold?", "documents": DOCUMENTS}).json()
    results = found["results"]
    assert sorted(result["index"] for result in results) == [0, 1, 2]
    relevance = [result["relevance_score"] for result in results]
    assert relevance == sorted(relevance, reverse=True)
    assert all(0 <= each <= 1 for each in relevance)
    assert all(result["document"] is None for result in results)


def test_the_best_with_their_texts(reranking: Server) -> None:
    documents = [{"text": text} for text in DOCUMENTS]
    request = {"query": "cold?", "documents": documents, "top_n": 2, "return_documents": True}
    results = reranking.client.post("/v1/rerank", json=request).json()["results"]
    assert len(results) == 2
    assert [result["document"]["text"] for result in results] == [DOCUMENTS[result["index"]] for result in results]


def test_ragx_can_rerank_with_another_server(reranking: Server) -> None:
    passages = [Passage(str(n), "", "", text, n, 0, len(text), "") for n, text in enumerate(["snow", "ice", "water"])]
    remote = ApiReranker(f"{reranking.url}/v1/rerank").scores("cold?", passages)
    np.testing.assert_allclose(remote, 1 / (1 + np.exp([-4.0, -3.0, -5.0])), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"documents": []}, 400, "must not be empty"),
        ({"query": " "}, 400, "the query is empty"),
        ({"documents": ["a"] * 1001}, 400, "at most 1000 allowed"),
        ({"model": "gpt-5"}, 404, "gpt-5"),
    ],
)
def test_a_bad_request_says_what_is_wrong(
    reranking: Server, changes: dict[str, object], status: int, message: str
) -> None:
    refused = reranking.client.post("/v1/rerank", json={"query": "cold?", "documents": DOCUMENTS, **changes})
    assert refused.status_code == status
    assert message in refused.json()["error"]["message"]


def test_a_server_without_a_reranker_says_so(rag: RAG) -> None:
    with serving(RAG(rag.retriever, rag.readers)) as server:
        refused = server.client.post("/v1/rerank", json={"query": "cold?", "documents": DOCUMENTS})
    assert refused.status_code == 400
    assert "--rerank" in refused.json()["error"]["message"]


def test_the_reranker_is_listed(reranking: Server) -> None:
    names = [model["id"] for model in reranking.client.get("/v1/models").json()["data"]]
    assert names[0] == MODEL
    assert LengthReranker().name in names
