"""Responses in the form of OpenAI's API; citations are in the extra field `ragx`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from ragx.types import Answer, Citation, Hit, Timings

FinishReason = Literal["stop", "length"]
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""A streamed response, in the OpenAPI document."""
CLIENT_CLOSED = 499
"""The status in the metrics of a request whose client has left; nobody receives it."""
LEAST_LOGPROB = -9999.0
"""What OpenAI sends for an impossible token; JSON has no infinity."""


class Usage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RagxPart(BaseModel):
    """Where an answer comes from, and what it took."""

    citations: list[Citation]
    notes: list[str]
    timings: Timings
    likelihood: float | None
    refused: bool
    supported: bool


class AssistantMessage(BaseModel):
    """The answer, as a message."""

    role: Literal["assistant"] = "assistant"
    content: str


class TopLogprob(BaseModel):
    """A token and the logarithm of its probability; `bytes` is null where the token is no whole characters."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TopLogprob):
    """A token of the answer, and the most likely ones in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """Every token of an answer."""

    content: list[ContentLogprob]
    refusal: None = None


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int = 0
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    ragx: RagxPart


class TextChoice(BaseModel):
    """One of `n` answers."""

    index: int = 0
    text: str
    finish_reason: FinishReason
    logprobs: None = None


class Completion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    ragx: RagxPart


class Model(BaseModel):
    """A model that clients can name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["ragx"] = "ragx"


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Embedding(BaseModel):
    """A vector, as numbers or as the base64 of its float32 bytes."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """One vector per input."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class HitList(BaseModel):
    """Passages, best first."""

    object: Literal["list"] = "list"
    data: list[Hit]
    notes: list[str]
    """What was not searched."""


class RerankedDocument(BaseModel):
    """A document as it was sent."""

    text: str


class Reranked(BaseModel):
    """A document's place in the request, and its relevance from 0 to 1."""

    index: int
    relevance_score: float
    document: RerankedDocument | None = None


class RerankList(BaseModel):
    """Documents, best first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[Reranked]


class Health(BaseModel):
    """The server is up."""

    status: Literal["ok"] = "ok"


def usage(answers: Sequence[Answer]) -> Usage:
    """The tokens that answers to one question took."""
    prompt, completion = answers[0].prompt_tokens, sum(answer.answer_tokens for answer in answers)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def finish_reason(answer: Answer) -> FinishReason:
    """Why an answer ended."""
    return "length" if answer.finish == "length" else "stop"


def ragx_part(answer: Answer) -> RagxPart:
    """Where an answer comes from."""
    return RagxPart(
        citations=answer.citations,
        notes=answer.notes,
        timings=answer.timings,
        likelihood=answer.likelihood,
        refused=answer.refused,
        supported=answer.supported,
    )


def choice_logprobs(answer: Answer) -> ChoiceLogprobs | None:
    """The probabilities of an answer's tokens, if they were requested."""
    if answer.logprobs is None:
        return None
    content = [
        ContentLogprob(
            **_token(each.token, each.logprob), top_logprobs=[TopLogprob(**_token(*token)) for token in each.top]
        )
        for each in answer.logprobs
    ]
    return ChoiceLogprobs(content=content)


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {
        "token": text,
        "logprob": max(logprob, LEAST_LOGPROB),
        "bytes": None if "\ufffd" in text else list(text.encode()),
    }


def whole_answer(head: dict[str, Any], answers: Sequence[Answer], *, chat: bool) -> ChatCompletion | Completion:
    """Whole answers to a chat or a completion; `head` has its id, creation time and model.

    The sources are those of the first answer.
    """
    common = {**head, "usage": usage(answers), "ragx": ragx_part(answers[0])}
    if not chat:
        texts = [
            TextChoice(index=index, text=answer.text, finish_reason=finish_reason(answer))
            for index, answer in enumerate(answers)
        ]
        return Completion(**common, choices=texts)
    messages = [
        ChatChoice(
            index=index,
            message=AssistantMessage(content=answer.text),
            finish_reason=finish_reason(answer),
            logprobs=choice_logprobs(answer),
        )
        for index, answer in enumerate(answers)
    ]
    return ChatCompletion(**common, choices=messages)


class Chunks:
    """The chunks of streamed answers as JSON objects, for a chat or a completion."""

    def __init__(self, head: dict[str, Any], *, chat: bool, with_usage: bool, answers: int = 1) -> None:
        """`head` as in `whole_answer`."""
        self.chat, self.with_usage, self.answers = chat, with_usage, answers
        self.head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
        self._ended: list[Answer] = []

    def first(self) -> list[dict[str, Any]]:
        """A chat begins with a chunk that names the role, one for each answer."""
        role = {"delta": {"role": "assistant", "content": ""}}
        return [self._chunk(index, role) for index in range(self.answers)] if self.chat else []

    def of(self, index: int, event: str | Answer) -> list[dict[str, Any]]:
        """A piece of text; at the end of each answer the finish reason, the sources and the logarithms of
        probabilities; after the last one the usage, if requested.
        """
        if isinstance(event, str):
            return [self._chunk(index, {"delta": {"content": event}} if self.chat else {"text": event})]
        self._ended.append(event)
        end = self._chunk(index, {"delta": {}} if self.chat else {"text": ""}, finish_reason(event))
        if logprobs := choice_logprobs(event):
            end["choices"][0]["logprobs"] = logprobs.model_dump()
        end["ragx"] = ragx_part(event).model_dump()
        if not self.with_usage or len(self._ended) < self.answers:
            return [end]
        return [end, {**self.head, "choices": [], "usage": usage(self._ended).model_dump()}]

    def _chunk(self, index: int, content: dict[str, Any], reason: FinishReason | None = None) -> dict[str, Any]:
        choice = {"index": index, **content, "finish_reason": reason, "logprobs": None}
        return {**self.head, "choices": [choice], **({"usage": None} if self.with_usage else {})}
