"""Responses in the form of OpenAI's API; citations are in the extra field `ragx`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from ragx.types import Answer, Citation, Hit, Timings

FinishReason = Literal["stop", "length"]


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


class AssistantMessage(BaseModel):
    """The answer, as a message."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """The only choice."""

    index: int = 0
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: None = None


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
    """The only choice."""

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


class Health(BaseModel):
    """The server is up."""

    status: Literal["ok"] = "ok"


def usage(answer: Answer) -> Usage:
    """The tokens an answer took."""
    prompt, completion = answer.prompt_tokens, answer.answer_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def finish_reason(answer: Answer) -> FinishReason:
    """Why an answer ended."""
    return "length" if answer.finish == "length" else "stop"


def ragx_part(answer: Answer) -> RagxPart:
    """Where an answer comes from."""
    return RagxPart(citations=answer.citations, notes=answer.notes, timings=answer.timings)


def whole_answer(head: dict[str, Any], answer: Answer, *, chat: bool) -> ChatCompletion | Completion:
    """A whole answer, to a chat or a completion; `head` has its id, creation time and model."""
    common = {**head, "usage": usage(answer), "ragx": ragx_part(answer)}
    reason = finish_reason(answer)
    if chat:
        message = AssistantMessage(content=answer.text)
        return ChatCompletion(**common, choices=[ChatChoice(message=message, finish_reason=reason)])
    return Completion(**common, choices=[TextChoice(text=answer.text, finish_reason=reason)])


class Chunks:
    """The chunks of a streamed answer as JSON objects, for a chat or a completion."""

    def __init__(self, head: dict[str, Any], *, chat: bool, with_usage: bool) -> None:
        """`head` as in `whole_answer`."""
        self.chat, self.with_usage = chat, with_usage
        self.head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}

    def first(self) -> list[dict[str, Any]]:
        """A chat begins with a chunk that names the role."""
        return [self._chunk({"delta": {"role": "assistant", "content": ""}})] if self.chat else []

    def of(self, event: str | Answer) -> list[dict[str, Any]]:
        """A piece of text; at the end the finish reason and the sources, then the usage if requested."""
        if isinstance(event, str):
            return [self._chunk({"delta": {"content": event}} if self.chat else {"text": event})]
        end = self._chunk({"delta": {}} if self.chat else {"text": ""}, finish_reason(event))
        end["ragx"] = ragx_part(event).model_dump()
        if not self.with_usage:
            return [end]
        return [end, {**self.head, "choices": [], "usage": usage(event).model_dump()}]

    def _chunk(self, content: dict[str, Any], reason: FinishReason | None = None) -> dict[str, Any]:
        choice = {"index": 0, **content, "finish_reason": reason, "logprobs": None}
        return {**self.head, "choices": [choice], **({"usage": None} if self.with_usage else {})}
