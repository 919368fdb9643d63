"""Reranking in RagxLLM, ChatRagx and RagxRetriever."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from pydantic import ValidationError

from ragx import RAG
from ragx.config import SamplingParams
from ragx.errors import ConfigError
from ragx.langchain import ChatRagx, RagxRetriever
from ragx.retrieval import open_index
from ragx.retrieval.rerankers import open_reranker
from tests.helpers.chains import EITHER
from tests.helpers.tiny import save_projection_of, save_tiny_reader
from tests.helpers.tiny_cross_encoders import save_cross_encoder

QUESTION = "How much sunlight does fresh snow reflect?"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_cross_encoder(tmp_path_factory.mktemp("reranker") / "model"))


@EITHER
def test_the_answer_comes_from_the_passages_that_rag_reranks(
    kind: Any, tiny: dict[str, Any], built_index: Path, reranker: str
) -> None:
    settings = {"model": str(tiny["model"]), "dtype": "float32", "rerank": reranker}
    with RAG.from_index(built_index, **settings) as rag:
        short = SamplingParams(max_new_tokens=16)
        expected = rag.ask(QUESTION, k=2, prompt_passages=2, sampling=short)
        plain = rag.ask(QUESTION, k=2, prompt_passages=2, rerank="none", sampling=short)
    assert expected.text != plain.text

    def text(answer: Any) -> str:
        return str(answer.text if isinstance(answer, AIMessage) else answer)

    model = kind(**tiny, rerank=reranker)
    assert text(model.invoke(QUESTION)) == expected.text
    assert text(asyncio.run(model.ainvoke(QUESTION))) == expected.text
    assert text(model.invoke(QUESTION, rerank="none")) == plain.text
    two_best = RagxRetriever(index=built_index, k=2, rerank=reranker)
    over_retriever = {**tiny, "index": None, "retriever": two_best}
    assert text(kind(**over_retriever).invoke(QUESTION)) == expected.text
    over_retriever["retriever"] = RagxRetriever(index=built_index, k=4, rerank="none")
    assert text(kind(**over_retriever, rerank=reranker).invoke(QUESTION)) != text(
        kind(**over_retriever).invoke(QUESTION)
    )


def test_passages_far_from_the_best_one_are_not_read(tiny: dict[str, Any], built_index: Path, reranker: str) -> None:
    def prompt_tokens(**settings: Any) -> int:
        model = ChatRagx(**{**tiny, "rerank": reranker, "prompt_passages": 4, "k": 4, **settings})
        usage = model.invoke(QUESTION).usage_metadata
        assert usage is not None
        return usage["input_tokens"]

    assert prompt_tokens(within=0) < prompt_tokens(within=math.inf) == prompt_tokens()


def test_late_interaction_uses_the_reader_that_answers(
    tiny: dict[str, Any], built_index: Path, tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    reader = save_tiny_reader(tmp_path / "reader", tiny_decoder)
    save_projection_of(reader)
    with RAG.from_index(built_index, model=str(reader), dtype="float32", rerank="late") as rag:
        expected = rag.ask(QUESTION, k=2, prompt_passages=2, sampling=SamplingParams(max_new_tokens=16))
    assert [hit.reranker for hit in expected.hits] == ["late"] * 2
    assert ChatRagx(**{**tiny, "model": str(reader)}, rerank="late").invoke(QUESTION).text == expected.text


def test_documents_are_those_that_rag_retrieves(built_index: Path, reranker: str) -> None:
    rag = RAG(open_index(built_index), {}, reranker=open_reranker(reranker))
    expected = [hit.passage.title for hit in rag.retrieve(QUESTION, k=4)]
    assert expected != [hit.passage.title for hit in rag.retrieve(QUESTION, k=4, rerank="none")]
    for k in (1, 4):
        found = RagxRetriever(index=built_index, k=k, rerank=reranker).invoke(QUESTION)
        assert [document.metadata["title"] for document in found] == expected[:k]


def test_a_reranker_that_fails_is_one_line_on_stderr(
    tiny: dict[str, Any], built_index: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = "http://127.0.0.1:9/rerank"
    plain = RagxRetriever(index=built_index, k=4, rerank="none").invoke(QUESTION)
    assert RagxRetriever(index=built_index, k=4, rerank=url).invoke(QUESTION) == plain
    assert capfd.readouterr().err.count("127.0.0.1 failed") == 1
    expected = ChatRagx(**tiny, rerank="none").invoke(QUESTION).text
    assert ChatRagx(**tiny, rerank=url).invoke(QUESTION).text == expected
    assert capfd.readouterr().err.count("127.0.0.1 failed") == 1


@EITHER
def test_a_reranker_must_have_a_name(kind: Any, tiny: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^rerank: "):
        kind(**tiny).invoke(QUESTION, rerank="")
    with pytest.raises((ConfigError, ValidationError), match="rerank"):
        kind(**tiny, rerank="")
