"""Requests in the form of OpenAI's API; ragx's own settings are in the extra field `ragx`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ragx.config import NO_LIMIT, SamplingParams
from ragx.types import Message, ReaderName, SearchMethod

MAX_MESSAGES = 200
MAX_K = 200
MAX_FILTER_CHARS = 10_000
MAX_TEXTS = 2048
"""Inputs of one request for embeddings, as OpenAI allows."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
"""Unsupported fields that would change the answer, with the values that do not. Other unknown fields are ignored."""
TOOLS = "ragx answers from its index and calls no tools"
REASONS = {
    "tools": TOOLS,
    "functions": TOOLS,
    "tool_choice": TOOLS,
    "function_call": TOOLS,
    "response_format": "ragx answers in plain text, not in JSON or by a schema",
    "n": "ragx gives one answer a request",
}


def _token_limit(value: int) -> int:
    if value == -1:
        return NO_LIMIT
    if value < 1:
        raise ValueError(f"must be positive, or -1 for as many tokens as fit, got {value}")
    return value


TokenLimit = Annotated[int, AfterValidator(_token_limit)]
Text = Annotated[str, Field(min_length=1)]
Where = Annotated[str, Field(min_length=1, max_length=MAX_FILTER_CHARS)]
"""A filter of the passages to search (docs/filters.md), besides the server's own."""
# one error a list: a large list of a wrong type would have millions
TokenIds = Annotated[list[Annotated[int, Field(strict=True, ge=0, lt=2**32)]], Field(min_length=1, fail_fast=True)]
BATCH = Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool | None = None


class RagxOptions(BaseModel):
    """How to retrieve and read; the defaults are the server's."""

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(default=None, ge=1, le=MAX_K)
    prompt_passages: int | None = Field(default=None, ge=0, le=MAX_K)
    reader: ReaderName | None = None
    method: SearchMethod | None = None
    where: Where | None = None


class AnswerRequest(BaseModel):
    """What chats and completions share."""

    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    """-1, or more than the decoder's window holds: as many as fit."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Text | Annotated[list[Text], Field(max_length=4, fail_fast=True)] | None = None
    ragx: RagxOptions | None = None

    @model_validator(mode="after")
    def _refuse_unsupported(self) -> AnswerRequest:
        for name, value in (self.model_extra or {}).items():
            if name in NEUTRAL and value is not None and value not in NEUTRAL[name]:
                context = {"param": name, "reason": f" ({REASONS[name]})" if name in REASONS else ""}
                raise PydanticCustomError("unsupported", "{param} is not supported{reason}: leave it out", context)
        return self

    def sampling(self) -> SamplingParams:
        """How to decode; what was not given is left to the defaults."""
        return SamplingParams(**self._sampling())

    def _sampling(self) -> dict[str, Any]:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        sent = {
            "max_new_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": tuple(stop) if stop else None,
        }
        return {name: value for name, value in sent.items() if value is not None}


class TextPart(BaseModel):
    """Part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True)] | None = None

    def message(self) -> Message:
        """The message as `ragx.types.Message`."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])
        return Message("system" if self.role == "developer" else self.role, text)


class ChatRequest(AnswerRequest):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: TokenLimit | None = None

    @model_validator(mode="after")
    def _check_last_is_a_question(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's question")
        return self

    def _sampling(self) -> dict[str, Any]:
        newer = self.max_completion_tokens  # OpenAI's newer name for max_tokens
        return super()._sampling() | ({} if newer is None else {"max_new_tokens": newer})


class CompletionRequest(AnswerRequest):
    """`POST /v1/completions`: the prompt is the question."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1, fail_fast=True)]

    @property
    def question(self) -> str:
        """The prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class EmbeddingRequest(BaseModel):
    """`POST /v1/embeddings`."""

    model: str
    input: Text | Annotated[list[Text], BATCH] | TokenIds | Annotated[list[TokenIds], BATCH]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)

    @property
    def inputs(self) -> Sequence[str | list[int]]:
        """Each input, a text or its token ids."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return self.input


class SearchRequest(BaseModel):
    """`POST /v1/search`."""

    model_config = ConfigDict(extra="forbid")

    query: str
    k: int = Field(default=10, ge=1, le=MAX_K)
    method: SearchMethod | None = None
    where: Where | None = None
