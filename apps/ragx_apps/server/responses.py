"""What clients get, as OpenAI's API has it; citations stand in the extra field `ragx`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from ragx.types import Answer, Citation, Hit, Timings

FinishReason = Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RagxPart(BaseModel):
    """Where the answer comes from."""

    citations: list[Citation]
    notes: list[str]
    timings: Timings


class AssistantMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """The one choice."""

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
    """The one choice."""

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
    """A model that can be named."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["ragx"] = "ragx"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


class Embedding(BaseModel):
    """One text's vector, or its float32 bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """A vector for each text."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class HitList(BaseModel):
    """Passages, best first."""

    object: Literal["list"] = "list"
    data: list[Hit]
    notes: list[str]
    """What was not searched, if anything."""


class Health(BaseModel):
    """The server is up."""

    status: Literal["ok"] = "ok"


def usage(answer: Answer) -> Usage:
    """What an answer took."""
    prompt, completion = answer.prompt_tokens, answer.answer_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def finish_reason(answer: Answer) -> FinishReason:
    """Why a whole answer ended."""
    return "length" if answer.finish == "length" else "stop"


def ragx_part(answer: Answer) -> RagxPart:
    """Where an answer comes from."""
    return RagxPart(citations=answer.citations, notes=answer.notes, timings=answer.timings)


class Chunks:
    """The pieces of a streamed answer as JSON objects, for a chat or a completion."""

    def __init__(self, identity: str, created: int, model: str, *, chat: bool, with_usage: bool) -> None:
        self.chat, self.with_usage = chat, with_usage
        self.head = {
            "id": identity,
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": created,
            "model": model,
        }

    def first(self) -> dict[str, Any] | None:
        """A chat's first chunk names the role."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}) if self.chat else None

    def piece(self, text: str) -> dict[str, Any]:
        """A piece of the answer."""
        return self._chunk({"delta": {"content": text}} if self.chat else {"text": text})

    def last(self, answer: Answer) -> list[dict[str, Any]]:
        """Why it ended and where it comes from; then, where asked for, what it took."""
        end = self._chunk({"delta": {}} if self.chat else {"text": ""}, finish_reason(answer))
        end["ragx"] = ragx_part(answer).model_dump()
        if not self.with_usage:
            return [end]
        return [end, {**self.head, "choices": [], "usage": usage(answer).model_dump()}]

    def _chunk(self, content: dict[str, Any], reason: FinishReason | None = None) -> dict[str, Any]:
        choice = {"index": 0, **content, "finish_reason": reason, "logprobs": None}
        return {**self.head, "choices": [choice], **({"usage": None} if self.with_usage else {})}
