"""Effort in the retriever and the chat model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ragx.config import IndexSettings
from ragx.index import build_index
from ragx.langchain import ChatRagx, RagxEmbeddings, RagxRetriever
from tests.helpers.articles import ARTICLES, BRIDGE, LAST, QUESTION
from tests.helpers.toy_embedders import passage


@pytest.fixture(scope="module")
def articles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "articles"
    found = [passage(number, text, title) for number, (title, text) in enumerate(ARTICLES.items())]
    build_index(found, folder, RagxEmbeddings().embedder, IndexSettings(), quiet=True)
    return folder


def test_the_retriever_searches_with_effort(articles: Path) -> None:
    retriever = RagxRetriever(index=articles, k=6, method="bm25", rerank="none")

    def found(**options: Any) -> set[str]:
        return {document.metadata["title"] for document in retriever.invoke(QUESTION, **options)}

    assert BRIDGE not in found()
    assert BRIDGE in found(effort="medium")
    assert LAST in found(effort="high", split=lambda _: ["Which town has ferries?"])


def test_the_chat_model_reads_what_more_effort_finds(tiny: dict[str, Any], articles: Path) -> None:
    settings = {**tiny, "index": articles, "k": 6, "prompt_passages": 6, "rerank": "none"}
    read = {}
    for effort in ("low", "medium"):
        documents = RagxRetriever(index=articles, k=6, rerank="none", effort=effort).invoke(QUESTION)
        read[effort] = ChatRagx(**settings).invoke(QUESTION, documents=documents).content
        assert ChatRagx(**settings).invoke(QUESTION, effort=effort).content == read[effort]
        assert ChatRagx(**settings, effort=effort).invoke(QUESTION).content == read[effort]
    assert read["low"] != read["medium"]
    assert ChatRagx(**settings).invoke(QUESTION, effort="high").content  # the decoder writes no part of use
    with pytest.raises(ValidationError, match="effort"):
        ChatRagx(**settings, effort="most")
