"""`/v1/responses` as OpenAI's own client sees it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from ragx.config import SamplingParams
from ragx.rag import RAG
from ragx.types import Message
from tests.helpers.served import MODEL, QUESTION, Server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_response_is_the_answer_with_its_sources(client: openai.OpenAI, rag: RAG) -> None:
    response = client.responses.create(
        model=MODEL, input=QUESTION, instructions="Be brief.", max_output_tokens=12, metadata={"for": "test"}
    )
    history = [Message("system", "Be brief.")]
    expected = rag.ask(QUESTION, history=history, sampling=SamplingParams(max_new_tokens=12))
    assert response.output_text == expected.text
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (expected.prompt_tokens, 12)
    assert (response.metadata, response.instructions) == ({"for": "test"}, "Be brief.")
    assert "citations" in response.model_extra["ragx"]  # type: ignore[index]


def test_a_conversation_continues_with_earlier_output(client: openai.OpenAI, rag: RAG) -> None:
    first = client.responses.create(model=MODEL, input=[{"role": "user", "content": QUESTION}], max_output_tokens=6)
    items: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        *(item.model_dump() for item in first.output),
        {"role": "user", "content": "And soil?"},
    ]
    second = client.responses.create(model=MODEL, input=items, max_output_tokens=6)
    history = [Message("system", "Be brief."), Message("user", QUESTION), Message("assistant", first.output_text)]
    expected = rag.ask("And soil?", history=history, sampling=SamplingParams(max_new_tokens=6))
    assert second.output_text == expected.text


def test_a_stream_sends_events_in_order(client: openai.OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=12)
    events = list(client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=12, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 1
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * deltas, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == [*range(len(events))]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    last: Any = events[-1]
    assert (last.response.output_text, last.response.usage) == (whole.output_text, whole.usage)
    with client.responses.stream(model=MODEL, input=QUESTION, max_output_tokens=12) as stream:  # checks the order too
        assert [event.type for event in stream][-1] == "response.incomplete"


def test_a_response_in_json(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"dark": {"type": "boolean"}}, "required": ["dark"]}
    schema["additionalProperties"] = False
    format: Any = {"type": "json_schema", "name": "light", "schema": schema}
    response = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=60, text={"format": format})
    assert response.status == "completed"
    assert set(json.loads(response.output_text)) == {"dark"}


@pytest.mark.parametrize(
    ("changes", "message", "param"),
    [
        ({"previous_response_id": "resp_1"}, "stores nothing", "previous_response_id"),
        ({"background": True}, "stores nothing", "background"),
        ({"tools": [{"type": "web_search"}]}, "calls no tools", "tools"),
        ({"input": [{"role": "assistant", "content": "?"}]}, "the last message must be the user's", None),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": ""}]}, "type", "input.0.type"),
        ({"input": " "}, "the question is empty", None),
        ({"max_output_tokens": 0}, "must be positive", "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_says_what_is_wrong(
    client: openai.OpenAI, changes: dict[str, Any], message: str, param: str | None, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**{"model": MODEL, "input": QUESTION, "stream": stream, **changes})
    body: Any = raised.value.body
    assert message in body["message"]
    assert body["param"] == param
