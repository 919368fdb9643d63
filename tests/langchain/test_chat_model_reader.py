"""Any LangChain chat model reads the passages of a ragx index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field

from ragx import RAG, SamplingParams
from ragx.langchain import ChatModelReader
from ragx.retrieval import open_index
from ragx.types import Message

QUESTION = "How much sunlight does fresh snow reflect?"


class Recording(BaseChatModel):
    """Says one sentence, and keeps what it was sent."""

    sent: list[Any] = Field(default=[])

    @property
    def _llm_type(self) -> str:
        return "recording"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise AssertionError("answers are streamed")

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.sent.append((messages, stop, kwargs))
        for piece in ("Fresh snow reflects ", "up to 90 percent ", "of the sunlight. ", "And more."):
            yield ChatGenerationChunk(message=AIMessageChunk(piece))
        usage = {"input_tokens": 99, "output_tokens": 12, "total_tokens": 111}
        end = AIMessageChunk("", usage_metadata=usage, response_metadata={"finish_reason": "length"})
        yield ChatGenerationChunk(message=end)


@pytest.fixture
def llm() -> Recording:
    return Recording(sent=[])


@pytest.fixture
def rag(built_index: Path, llm: Recording) -> Iterator[RAG]:
    with RAG(open_index(built_index, method="bm25"), {"full": ChatModelReader(llm)}, method="bm25") as rag:
        yield rag


def test_an_answer_has_citations_counts_and_its_reason_to_end(rag: RAG, llm: Recording) -> None:
    pieces: list[str] = []
    history = [Message("user", "Is snow white?"), Message("assistant", "Yes.")]
    answer = rag.ask(QUESTION, history=history, on_text=pieces.append)
    assert answer.text == "Fresh snow reflects up to 90 percent of the sunlight. And more."
    assert len(pieces) == 4
    assert answer.citations[0].document == "Snow.txt"
    assert (answer.prompt_tokens, answer.answer_tokens, answer.finish) == (99, 12, "length")
    [(messages, stop, _)] = llm.sent
    assert [message.type for message in messages] == ["human", "ai", "human"]
    assert messages[-1].content.endswith(f"Question: {QUESTION}")
    assert "[1] Snow\n" in messages[-1].content
    assert stop is None


def test_stop_strings_reach_the_model_and_hold_if_it_ignores_them(rag: RAG, llm: Recording) -> None:
    answer = rag.ask(QUESTION, sampling=SamplingParams(stop=("of the",)))
    assert (answer.text, answer.finish) == ("Fresh snow reflects up to 90 percent", "stop")
    assert llm.sent[0][1] == ["of the"]


def test_settings_bound_to_the_model_are_kept(built_index: Path, llm: Recording) -> None:
    reader = ChatModelReader(llm.bind(temperature=0.5), window=4096)
    with RAG(open_index(built_index, method="bm25"), {"full": reader}, method="bm25") as rag:
        assert rag.ask(QUESTION).text
    assert llm.sent[0][2]["temperature"] == 0.5
    assert reader.decoder_window == 4096
