"""`POST /v1/responses`: the request."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from ragx.types import Message
from ragx_apps.server.requests import MAX_MESSAGES, AnyJson, PlainText, QuestionRequest, TokenLimit

STATELESS = "the server stores nothing: send the whole conversation as `input`"


class InputPart(BaseModel):
    """Text that a client sends, or an earlier answer."""

    type: Literal["input_text", "output_text"]
    text: str


class InputMessage(BaseModel):
    """One message of the conversation; an earlier response's output fits as it is."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[InputPart], Field(fail_fast=True)]

    def message(self) -> Message:
        """The message as `ragx.types.Message`."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class SchemaFormat(BaseModel):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    name: str
    schema_: dict[str, Any] = Field(alias="schema")

    def schema_text(self) -> str | None:
        """The client's schema."""
        return json.dumps(self.schema_)


class TextOptions(BaseModel):
    """What kind of text to answer with."""

    format: Annotated[PlainText | AnyJson | SchemaFormat, Field(discriminator="type")] | None = None


class ResponseRequest(QuestionRequest):
    """`POST /v1/responses`."""

    input: str | Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: TokenLimit | None = None
    text: TextOptions | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> ResponseRequest:
        for name in ("previous_response_id", "conversation", "prompt", "background"):
            if getattr(self, name):
                context = {"param": name, "reason": STATELESS}
                raise PydanticCustomError("unsupported", "{param} is not supported: {reason}", context)
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's question")
        return self

    @property
    def messages(self) -> list[Message]:
        """The conversation, which ends with the question."""
        first = [Message("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*first, Message("user", self.input)]
        return [*first, *(message.message() for message in self.input)]

    def _sampling(self) -> dict[str, Any]:
        format = self.text.format if self.text else None
        schema = format.schema_text() if format else None
        return super()._sampling() | {"max_new_tokens": self.max_output_tokens, "json_schema": schema}
