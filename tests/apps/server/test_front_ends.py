"""The server behind Open WebUI and LibreChat, with requests of the form that they send (their sources, 2026)."""

from __future__ import annotations

import json
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from ragx_apps.server.front_ends import is_task

from ragx.config import SamplingParams
from ragx.langchain import ChatModelReader
from ragx.rag import RAG
from ragx.retrieval import open_index
from tests.helpers.served import MODEL, QUESTION, Server, serving

HISTORY = f"<chat_history>\nUSER: {QUESTION}\nASSISTANT: Up to 90 percent.\n</chat_history>"
OPEN_WEBUI_TITLE = f"### Task:\nName this chat in three words.\n### Output:\nJSON with a title.\n{HISTORY}"
LIBRECHAT_TITLE = f"Write a title for the conversation. Only return the title itself.\n\nUser: {QUESTION}"


def chat(server: Server, path: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    answer = server.client.post(path, json={"model": MODEL, "max_tokens": 8, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_open_webui_lists_models_and_streams_a_chat(server: Server) -> None:
    headers = {"Authorization": "Bearer sk-any", "X-OpenWebUI-User-Name": "Ada", "X-OpenWebUI-Chat-Id": "7"}
    models = server.client.get("/v1/models", headers=headers).json()
    assert models["object"] == "list"
    assert MODEL in [model["id"] for model in models["data"]]
    body = {
        "model": MODEL,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 8,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
    }
    with server.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as stream:
        assert "text/event-stream" in stream.headers["Content-Type"]
        lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert chunks[-1]["usage"]["completion_tokens"] == 8


def test_librechat_sends_parts_and_neutral_penalties(server: Server, rag: RAG) -> None:
    answer = chat(
        server,
        user="65f0c0ffee",
        temperature=0,
        top_p=1,
        presence_penalty=0,
        frequency_penalty=0,
        n=1,
        messages=[{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    )
    expected = rag.ask(QUESTION, sampling=SamplingParams(max_new_tokens=8, temperature=0, top_p=1))
    assert answer["choices"][0]["message"]["content"] == expected.text


@pytest.mark.parametrize("prompt", [OPEN_WEBUI_TITLE, LIBRECHAT_TITLE])
def test_a_front_ends_own_prompt_is_answered_without_a_search(server: Server, rag: RAG, prompt: str) -> None:
    answer = chat(server, messages=[{"role": "user", "content": prompt}])
    expected = RAG(None, rag.readers).ask(prompt, sampling=SamplingParams(max_new_tokens=8))
    assert answer["choices"][0]["message"]["content"] == expected.text
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens
    assert answer["ragx"]["citations"] == []
    assert not answer["ragx"]["refused"]


@pytest.fixture
def quoting(notes_index: Path) -> RAG:
    """Its answer always quotes a passage, in two pieces."""
    llm = GenericFakeChatModel(messages=repeat(AIMessage("Fresh snow reflects up to 90 percent of the sunlight.")))
    return RAG(open_index(notes_index, method="bm25"), {"full": ChatModelReader(llm)}, method="bm25")


def test_sources_can_end_the_text(quoting: RAG) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
    expected = "Fresh snow reflects up to 90 percent of the sunlight. [1]\n\nSources:\n- [1] Snow, characters 8-77"
    with serving(quoting, append_sources=True) as server:
        assert chat(server, **asked)["choices"][0]["message"]["content"] == expected
        with server.client.stream("POST", "/v1/chat/completions", json={"stream": True, **asked}) as stream:
            chunks = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == expected


def test_earlier_answers_are_read_without_their_sources(rag: RAG) -> None:
    def tokens(answer: str) -> int:
        turns = [("user", QUESTION), ("assistant", answer), ("user", "And soil?")]
        body = chat(server, messages=[{"role": role, "content": text} for role, text in turns])
        return int(body["usage"]["prompt_tokens"])

    with serving(rag, append_sources=True) as server:
        assert tokens("Up to 90 percent.\n\nSources:\n- [1] Snow, characters 0-80") == tokens("Up to 90 percent.")


@pytest.mark.parametrize(
    ("message", "written_by_a_front_end"),
    [
        ("### Task:\nSuggest follow-up questions.", True),
        ("\n ### Task:\nAnswer from this <context>…</context>", True),
        ("Provide a short title for the conversation. Only RETURN THE TITLE itself.", True),
        ("Analyze this conversation and give: 1. the language 2. a title in the detected language", True),
        (QUESTION, False),
        ("Which ### Task: headings does the manual use?", False),
        ("What is a good title for the conversation on page 3?", False),
        ("", False),
    ],
)
def test_only_prompts_of_the_known_form_are_taken_for_tasks(message: str, written_by_a_front_end: bool) -> None:
    assert is_task(message) is written_by_a_front_end
