"""Requests in the form of OpenAI's API; ragx's own settings are in the extra field `ragx`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ragx.config import NO_LIMIT, SamplingParams
from ragx.types import Effort, Message, ReaderName, SearchMethod

MAX_MESSAGES = 200
MAX_K = 200
MAX_FILTER_CHARS = 10_000
MAX_ANSWERS = 8
"""Answers to one request (`n`)."""
MAX_TEXTS = 2048
"""Inputs of one request for embeddings, as OpenAI allows."""
MAX_DOCUMENTS = 1000
"""Documents of one request to rerank."""

NEUTRAL: dict[str, tuple[object, ...]] = {
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
    within: float | None = Field(default=None, ge=0)
    reader: ReaderName | None = None
    method: SearchMethod | None = None
    effort: Effort | None = None
    where: Where | None = None
    refuse_below: float | None = Field(default=None, ge=0, le=1)
    stop_loops: bool | None = None


class JsonSchema(BaseModel):
    """A JSON schema with a name; it is always enforced, `strict` or not."""

    name: str
    schema_: dict[str, Any] = Field(default={}, alias="schema")


class PlainText(BaseModel):
    """Answer in plain text."""

    type: Literal["text"]

    def schema_text(self) -> str | None:
        """The schema that an answer must fit, as JSON; None: none."""
        return None


class AnyJson(BaseModel):
    """Answer with a JSON object."""

    type: Literal["json_object"]

    def schema_text(self) -> str | None:
        """Of any object."""
        return '{"type": "object"}'


class SchemaJson(BaseModel):
    """Answer with JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema

    def schema_text(self) -> str | None:
        """The client's schema."""
        return json.dumps(self.json_schema.schema_)


class QuestionRequest(BaseModel):
    """What all requests for answers share."""

    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    ragx: RagxOptions | None = None

    @model_validator(mode="after")
    def _refuse_unsupported(self) -> QuestionRequest:
        for name, value in (self.model_extra or {}).items():
            if name in NEUTRAL and value is not None and value not in NEUTRAL[name]:
                context = {"param": name, "reason": f" ({REASONS[name]})" if name in REASONS else ""}
                raise PydanticCustomError("unsupported", "{param} is not supported{reason}: leave it out", context)
        return self

    def options(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `RAG.ask`: `defaults`, and what the request sets."""
        own = self.ragx.model_dump(exclude_none=True, exclude={"stop_loops"}) if self.ragx else {}
        return {**defaults, **own, "sampling": self.sampling()}

    def sampling(self) -> SamplingParams:
        """How to decode; what was not given is left to the defaults."""
        return SamplingParams(**{name: value for name, value in self._sampling().items() if value is not None})

    def _sampling(self) -> dict[str, Any]:
        stop_loops = self.ragx.stop_loops if self.ragx else None
        return {"temperature": self.temperature, "top_p": self.top_p, "stop_loops": stop_loops}


class AnswerRequest(QuestionRequest):
    """What chats and completions share."""

    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_ANSWERS)
    response_format: Annotated[PlainText | AnyJson | SchemaJson, Field(discriminator="type")] | None = None
    max_tokens: TokenLimit | None = None
    """-1, or more than the decoder's window holds: as many as fit."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Text | Annotated[list[Text], Field(max_length=4, fail_fast=True)] | None = None

    def _sampling(self) -> dict[str, Any]:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return super()._sampling() | {
            "max_new_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": tuple(stop) if stop else None,
            "json_schema": self.response_format.schema_text() if self.response_format else None,
        }


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
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_last_is_a_question(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's question")
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("unsupported", "top_logprobs needs logprobs: true", {"param": "top_logprobs"})
        return self

    def _sampling(self) -> dict[str, Any]:
        sent = super()._sampling()
        if self.max_completion_tokens is not None:  # OpenAI's newer name for max_tokens
            sent["max_new_tokens"] = self.max_completion_tokens
        if self.logprobs:
            sent["top_logprobs"] = self.top_logprobs or 0
        return sent


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

    model: str | None = None
    """`ragx/INDEX`; None: the first index."""
    query: str
    k: int = Field(default=10, ge=1, le=MAX_K)
    method: SearchMethod | None = None
    effort: Effort | None = None
    where: Where | None = None


class RerankDocument(BaseModel):
    """A document with its text in a field."""

    text: str


class RerankRequest(BaseModel):
    """`POST /v1/rerank`."""

    model: str | None = None
    query: str
    documents: Annotated[list[str | RerankDocument], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None

    @property
    def texts(self) -> list[str]:
        """The text of each document."""
        return [each if isinstance(each, str) else each.text for each in self.documents]
