"""Every interface answers with a model behind an API; here that is `ragx serve` itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client
from ragx_apps.mcp import create_server

from ragx.config import SamplingParams
from ragx.errors import ConfigError
from ragx.langchain import ChatRagx
from ragx.langchain.documents import to_document
from ragx.rag import RAG
from ragx.reader.prompt import build_messages
from tests.helpers.command import RunCommand
from tests.helpers.served import MODEL, QUESTION, Server, serving

LENGTH = SamplingParams(max_new_tokens=20)


@pytest.fixture(scope="module")
def options(server: Server) -> dict[str, Any]:
    return {"model": f"openai:{MODEL}", "base_url": f"{server.url}/v1"}


@pytest.fixture(scope="module")
def remote(notes_index: Path, options: dict[str, Any]) -> Iterator[RAG]:
    with RAG.from_index(notes_index, method="bm25", **options) as remote:
        yield remote


def expected(rag: RAG, remote: RAG, k: int = 60, prompt_passages: int = 10) -> str:
    """What the served model answers to the prompt that the other ragx writes."""
    passages = [hit.passage for hit in remote.retrieve(QUESTION, k=k)][:prompt_passages]
    prompt = build_messages(QUESTION, passages, max_tokens=9999)
    return rag.ask(prompt.messages[-1].content, sampling=LENGTH).text


def test_python(rag: RAG, remote: RAG) -> None:
    pieces: list[str] = []
    answer = remote.ask(QUESTION, prompt_passages=2, sampling=LENGTH, on_text=pieces.append)
    assert answer.text == "".join(pieces) == expected(rag, remote, prompt_passages=2)
    assert len(pieces) > 1
    assert (answer.finish, answer.answer_tokens, answer.context_tokens) == ("length", 20, 0)
    assert answer.prompt_tokens > 100
    assert [hit.passage.document for hit in answer.hits] == [hit.passage.document for hit in remote.retrieve(QUESTION)]
    with pytest.raises(ConfigError, match="reads as full"):
        remote.ask(QUESTION, reader="cepe")


def test_a_cancelled_answer_frees_the_server(server: Server, remote: RAG) -> None:
    cancel = threading.Event()
    endless = SamplingParams(max_new_tokens=7000)
    answer = remote.ask(QUESTION, sampling=endless, on_text=lambda _: cancel.set(), cancel=cancel)
    assert answer.finish == "cancelled"
    assert server.is_idle()


def test_command_line(
    run_command: RunCommand, rag: RAG, remote: RAG, notes_index: Path, options: dict[str, Any]
) -> None:
    model = ["--model", options["model"], "--base-url", options["base_url"], "--method", "bm25", "--index", notes_index]
    done = run_command("ask", QUESTION, *model, "--max-new-tokens", "20")
    assert done.code == 0, done.err
    assert done.out.startswith(expected(rag, remote))
    done = run_command("ask", QUESTION, *model, "--reader", "cepe")
    assert (done.code, done.out) == (2, "")
    assert "reads as full; cepe needs a model on this machine" in done.err
    done = run_command("ask", QUESTION, *[*model, "--model", "openai:sesame"])
    assert done.code == 2
    assert f"has no model 'sesame'; it has {MODEL}, " in done.err
    done = run_command("index", "encode", "--model", options["model"], "--index", notes_index)
    assert done.code == 2
    assert "this needs a model on this machine" in done.err


def test_server(rag: RAG, remote: RAG) -> None:
    body = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": QUESTION}]}
    with serving(remote, batch=2) as front:
        answer = front.client.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == expected(rag, remote)
        assert answer["usage"]["completion_tokens"] == 20
        with front.client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as streamed:
            assert len([line for line in streamed.iter_lines() if '"content": "' in line]) > 2
        refused = front.client.post("/v1/chat/completions", json=body | {"ragx": {"reader": "cepe"}})
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


def test_mcp(rag: RAG, remote: RAG) -> None:
    async def talk() -> None:
        async with Client(create_server(lambda: remote, lambda: remote)) as client:
            result: Any = await client.call_tool("ask", {"question": QUESTION})
            assert result.structured_content["answer"].startswith(expected(rag, remote))

    anyio.run(talk)


def test_langchain(rag: RAG, remote: RAG, notes_index: Path, options: dict[str, Any]) -> None:
    documents = [to_document(hit.passage) for hit in remote.retrieve(QUESTION)]
    model = ChatRagx(index=str(notes_index), max_tokens=20, **options)
    answer = model.invoke(QUESTION, documents=documents)
    assert answer.text == expected(rag, remote)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 20


def test_an_api_that_has_gone_away_is_an_error_of_the_server(rag: RAG, notes_index: Path) -> None:
    with serving(rag) as behind:
        options = {"model": f"openai:{MODEL}", "base_url": f"{behind.url}/v1"}
        remote = RAG.from_index(notes_index, method="bm25", **options)
    with serving(remote) as front:
        body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
        answer: httpx.Response = front.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 503
    assert f"no server answers at {behind.url}/v1" in answer.json()["error"]["message"]
