"""The server as OpenAI's own client sees it."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from pydantic import BaseModel, Field

from ragx.config import SamplingParams
from ragx.rag import RAG
from ragx.retrieval import TextEmbedder
from tests.helpers.served import MODEL, QUESTION, Server

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
BAD_SCHEMA = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": 5}}}
CHAT: list[Any] = [{"role": "user", "content": QUESTION}]


class Light(BaseModel):
    percent: int = Field(ge=0, le=99)
    dark: bool


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_chat_answers_with_citations_and_usage(client: openai.OpenAI, rag: RAG) -> None:
    extra = {"ragx": {"k": 3, "prompt_passages": 1}}
    completion = client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=20, extra_body=extra)
    expected = rag.ask(QUESTION, k=3, prompt_passages=1, sampling=SamplingParams(max_new_tokens=20))
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == expected.text
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 20
    assert completion.usage.prompt_tokens == expected.prompt_tokens > 100
    assert completion.usage.total_tokens == expected.prompt_tokens + 20
    ragx: dict[str, Any] = completion.model_extra["ragx"]  # type: ignore[index]
    assert set(ragx) == {"citations", "notes", "timings", "likelihood", "refused", "supported"}
    assert [citation["passage_id"] for citation in ragx["citations"]] == [c.passage_id for c in expected.citations]


def test_a_stream_gives_the_same_text(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=24)
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=24, stream=True, stream_options=options)
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == whole.choices[0].message.content
    assert len(chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-2:] == [None, "length"]
    assert "citations" in chunks[-2].model_extra["ragx"]  # type: ignore[index]
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    without = list(client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=3, stream=True))
    assert all(chunk.usage is None for chunk in without)


def test_a_stop_string_ends_the_answer(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=40).choices[0].text
    stop = whole[10:12]
    for stream in (False, True):
        answer: Any = client.completions.create(
            model=MODEL, prompt=QUESTION, max_tokens=40, stop=[stop, "never there"], stream=stream
        )
        pieces = list(answer) if stream else [answer]
        assert "".join(piece.choices[0].text for piece in pieces).strip() == whole[: whole.index(stop)].strip()
        assert pieces[-1].choices[0].finish_reason == "stop"


def test_a_seed_makes_sampling_repeatable(client: openai.OpenAI) -> None:
    def sampled(seed: int) -> str:
        completion = client.chat.completions.create(
            model=MODEL, messages=CHAT, max_completion_tokens=16, temperature=1.5, top_p=0.9, seed=seed
        )
        return completion.choices[0].message.content or ""

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(4)}) > 1


def test_several_answers_have_the_seeds_that_follow(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "messages": CHAT, "max_tokens": 8, "temperature": 1.5}
    alone = [client.chat.completions.create(**options, seed=seed) for seed in (5, 6, 7)]
    texts = [each.choices[0].message.content for each in alone]
    together = client.chat.completions.create(**options, seed=5, n=3)
    assert [(choice.index, choice.message.content) for choice in together.choices] == [*enumerate(texts)]
    usages = [each.usage for each in alone if each.usage]
    assert together.usage is not None
    assert together.usage.prompt_tokens == usages[0].prompt_tokens
    assert together.usage.completion_tokens == sum(usage.completion_tokens for usage in usages)
    streamed = ["", "", ""]
    usages = []
    for chunk in client.chat.completions.create(
        **options, seed=5, n=3, stream=True, stream_options={"include_usage": True}
    ):
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    assert usages == [together.usage]


def test_more_answers_than_places_are_refused(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.RateLimitError):  # the server has six places
        client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=7000, n=8)
    assert server.is_idle()


def test_log_probabilities_of_each_token(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "messages": CHAT, "max_tokens": 6, "logprobs": True}
    choice = client.chat.completions.create(**options, top_logprobs=3).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert "".join(each.token for each in content).strip() == choice.message.content
    for each in content:
        assert len(each.top_logprobs) == 3
        assert each.logprob == each.top_logprobs[0].logprob <= 0  # greedy decoding chooses the likeliest
        assert each.token == each.top_logprobs[0].token
        assert each.bytes == list(each.token.encode())
        assert sum(np.exp(top.logprob) for top in each.top_logprobs) <= 1 + 1e-9
    chunks = list(client.chat.completions.create(**options, top_logprobs=3, stream=True))
    sent = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [each.content for each in sent] == [content]
    without = client.chat.completions.create(**options).choices[0].logprobs
    assert without is not None
    assert without.content is not None
    assert [(each.token, each.top_logprobs) for each in without.content] == [(each.token, []) for each in content]


def test_an_answer_in_json(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model=MODEL, messages=CHAT, max_tokens=200, response_format=Light)
    assert parsed.choices[0].message.parsed is not None
    assert parsed.choices[0].finish_reason == "stop"


def test_a_conversation_is_searched_and_read(client: openai.OpenAI, rag: RAG) -> None:
    from ragx.types import Message

    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": "90 percent."},
        {"role": "user", "content": "And soil?"},
    ]
    completion = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=10)
    history = [Message("system", "Be brief."), Message("user", QUESTION), Message("assistant", "90 percent.")]
    expected = rag.ask("And soil?", history=history, sampling=SamplingParams(max_new_tokens=10))
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == expected.prompt_tokens
    assert completion.choices[0].message.content == expected.text


def test_models_and_embeddings(client: openai.OpenAI, rag: RAG) -> None:
    embedder = rag.retriever.embedder
    assert embedder is not None
    assert [model.id for model in client.models.list()] == [MODEL, embedder.name, "rerank-minilm-l6"]
    assert client.models.retrieve(MODEL).owned_by == "ragx"
    made = client.embeddings.create(model=embedder.name, input=["fresh snow", QUESTION])  # in base64
    plain = client.embeddings.create(model=embedder.name, input="fresh snow", encoding_format="float")
    assert len(made.data[0].embedding) == embedder.dimension
    np.testing.assert_allclose(made.data[0].embedding, plain.data[0].embedding, atol=1e-5)
    np.testing.assert_allclose(made.data[1].embedding, embedder.encode_question(QUESTION), atol=1e-2)
    assert made.usage.total_tokens > plain.usage.total_tokens > 2
    raw = client.embeddings.with_raw_response.create(model=embedder.name, input="a", encoding_format="base64")
    body: Any = raw.http_response.json()
    assert len(base64.b64decode(body["data"][0]["embedding"])) == 4 * embedder.dimension


def test_fewer_dimensions_can_be_asked_for(client: openai.OpenAI, rag: RAG) -> None:
    embedder = rag.retriever.embedder
    assert embedder is not None
    whole = np.array(client.embeddings.create(model=embedder.name, input="snow").data[0].embedding)
    cut = client.embeddings.create(model=embedder.name, input="snow", dimensions=64).data[0].embedding
    np.testing.assert_allclose(cut, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-5)
    with pytest.raises(openai.BadRequestError, match="384 dimensions"):
        client.embeddings.create(model=embedder.name, input="snow", dimensions=385)


def test_a_text_is_embedded_whole_or_not_at_all(client: openai.OpenAI, rag: RAG) -> None:
    embedder = rag.retriever.embedder
    assert isinstance(embedder, TextEmbedder)
    window = embedder.window
    assert window is not None
    fits = " ".join(["snow"] * (window - 2))  # and the two tokens around each text
    assert client.embeddings.create(model=embedder.name, input=fits).usage.total_tokens == window
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model=embedder.name, input=["snow", f"{fits} snow"])
    body: Any = raised.value.body
    assert body["message"] == f"input 1 has {window + 1} tokens, but {embedder.name} reads {window}: split it"
    assert (body["param"], body["code"]) == ("input", "context_length_exceeded")


def test_token_ids_are_embedded_as_their_text(client: openai.OpenAI, rag: RAG) -> None:
    embedder = rag.retriever.embedder
    assert isinstance(embedder, TextEmbedder)
    assert embedder.tokenizer is not None
    texts = ["Fresh snow isn't dark.", "Snow reflects sunlight."]
    expected = client.embeddings.create(model=embedder.name, input=texts, encoding_format="float")
    for special in (True, False):
        ids = [each.ids for each in embedder.tokenizer.encode_batch(texts, add_special_tokens=special)]
        for encoding_format in ("float", "base64"):
            several: Any = client.embeddings.create(model=embedder.name, input=ids, encoding_format=encoding_format)
            vectors = [
                np.frombuffer(base64.b64decode(each.embedding), "<f4")
                if isinstance(each.embedding, str)
                else each.embedding
                for each in several.data
            ]
            np.testing.assert_allclose(vectors, [each.embedding for each in expected.data], atol=1e-5)
            assert several.usage == expected.usage
        one = client.embeddings.create(model=embedder.name, input=ids[0])
        np.testing.assert_allclose(one.data[0].embedding, expected.data[0].embedding, atol=1e-5)


@pytest.mark.parametrize(
    "ids",
    [[86232, 12056, 27000, 40120], [3923, 374, 12056, 30], [2**32 - 1], [103, 104, 105]],
    ids=["beyond the vocabulary", "OpenAI's", "largest", "special tokens"],
)
def test_token_ids_of_another_vocabulary_are_refused(client: openai.OpenAI, rag: RAG, ids: list[int]) -> None:
    embedder = rag.retriever.embedder
    assert embedder is not None
    fine = client.embeddings.create(model=embedder.name, input=[[4586, 2003]])
    assert len(fine.data) == 1
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
        client.embeddings.create(model=embedder.name, input=[[4586, 2003], ids])


@pytest.mark.parametrize(
    ("changes", "message", "param"),
    [
        ({"n": 9}, "less than or equal to 8", "n"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs", "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias is not supported", "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "calls no tools", "tools"),
        ({"tool_choice": "required"}, "calls no tools", "tool_choice"),
        ({"response_format": {"type": "xml"}}, "'xml'", "response_format"),
        ({"response_format": {"type": "json_schema"}}, "is required", "response_format.json_schema"),
        ({"response_format": BAD_SCHEMA}, "the JSON schema cannot be used", None),
        ({"messages": []}, "must not be empty", "messages"),
        ({"messages": [{"role": "tool", "content": "?"}]}, "got 'tool'", "messages.0.role"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "got 'image_url'", "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": 5}]}, "must be a valid string, got 5", "messages.0.content"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "at most 4 allowed, got 5", "stop"),
        ({"stop": ["a", ""]}, "must not be empty", "stop.1"),
        ({"messages": [{"role": "assistant", "content": "?"}]}, "the last message must be the user's", None),
        ({"messages": [{"role": "user", "content": " "}]}, "the question is empty", None),
        ({"temperature": 3}, "less than or equal to 2", "temperature"),
        ({"max_tokens": 0}, "must be positive, or -1", "max_tokens"),
        ({"max_completion_tokens": -2}, "must be positive, or -1", "max_completion_tokens"),
        ({"extra_body": {"ragx": {"k": 0}}}, "greater than or equal to 1", "ragx.k"),
        ({"extra_body": {"ragx": {"kk": 1}}}, "is not a known field", "ragx.kk"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_says_what_is_wrong(
    client: openai.OpenAI, changes: dict[str, Any], message: str, param: str | None, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": MODEL, "messages": CHAT, "stream": stream, **changes})
    body: Any = raised.value.body
    assert message in body["message"]
    assert (body["type"], body["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("path", "request_", "message", "param"),
    [
        ("completions", {"prompt": ["a", "b"]}, "at most 1 allowed, got 2", "prompt"),
        ("completions", {"prompt": [1, 2]}, "must be a valid string", "prompt.0"),
        ("completions", {}, "is required", "prompt"),
        ("embeddings", {"input": []}, "must not be empty", "input"),
        ("embeddings", {"input": ""}, "must not be empty", "input"),
        ("embeddings", {"input": ["a", ""]}, "must not be empty", "input.1"),
        ("embeddings", {"input": ["a", 5]}, "must be a valid string, got 5", "input.1"),
        ("embeddings", {"input": [[1, 2], [3, "b"]]}, "must be a valid integer, got 'b'", "input.1.1"),
        ("embeddings", {"input": ["a"] * 2049}, "at most 2048 allowed, got 2049", "input"),
        ("embeddings", {"input": [0.5] * 500_000}, "got 0.5", "input.0"),
        ("embeddings", {"input": {"text": "a"}}, "got an object", "input"),
    ],
)
def test_the_field_of_an_error_is_the_clients(
    client: openai.OpenAI, path: str, request_: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.post(f"/{path}", body={"model": MODEL, **request_}, cast_to=object)
    body: Any = raised.value.body
    assert message in body["message"]
    assert body["message"].startswith(f"{param}: ")
    assert body["param"] == param


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [(b'{"model": ', "application/json", "not JSON"), (b'{"model": "tiny"}', "text/plain", "Content-Type")],
)
def test_a_body_that_is_not_json_is_said(server: Server, content: bytes, kind: str, message: str) -> None:
    url = f"{server.url}/v1/chat/completions"
    refused = httpx.post(url, content=content, headers={"Content-Type": kind})
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("most", [-1, 32_000, 10**30])
def test_a_limit_beyond_the_window_is_cut(
    client: openai.OpenAI, rag: RAG, monkeypatch: pytest.MonkeyPatch, field: str, most: int
) -> None:
    monkeypatch.setattr(rag.readers["full"].model.config, "max_position_embeddings", 512)
    extra: Any = {field: most, "ragx": {"reader": "full", "stop_loops": False}}
    completion = client.chat.completions.create(model=MODEL, messages=CHAT, extra_body=extra)
    assert completion.usage is not None
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.total_tokens == 512


def test_as_many_texts_are_embedded_as_langchain_sends(client: openai.OpenAI, rag: RAG) -> None:
    embedder = rag.retriever.embedder
    assert embedder is not None
    texts = [f"text {number}" for number in range(1000)]
    made = client.embeddings.create(model=embedder.name, input=texts, encoding_format="float")
    assert [each.index for each in made.data] == list(range(1000))
    alone = client.embeddings.create(model=embedder.name, input=texts[-1], encoding_format="float")
    np.testing.assert_allclose(made.data[-1].embedding, alone.data[0].embedding, atol=1e-2)


def test_an_unknown_model_or_route_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-5") as raised:
        client.chat.completions.create(model="gpt-5", messages=CHAT)
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("a/b")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="a")
    with pytest.raises(openai.NotFoundError):
        client.post("/nothing", cast_to=object)
