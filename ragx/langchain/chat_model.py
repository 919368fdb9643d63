"""ChatRagx: messages in, a cited answer out, as a LangChain chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from ragx.errors import ConfigError
from ragx.langchain.answering import Answering
from ragx.rag import question_text
from ragx.reader.conversation import search_query
from ragx.types import Answer, Message
from ragx.util.text import without_surrogates

ROLES: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "human": "user", "ai": "assistant"}
"""Those of LangChain's messages that a conversation is made of."""


class ChatRagx(Answering, BaseChatModel):
    """Answers the last human message from passages; settings are those of `Answering`.

    The messages before it are its conversation: they help to search, and stand in the prompt.

    The answer's `response_metadata` holds `citations`, `notes`, `model_name` and `context_tokens`; `usage_metadata`
    counts the decoder's prompt and what it decoded.

    >>> ChatRagx(index="my-index").invoke("When did we sign the lease?").content
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    streaming: bool = False
    """Whether `invoke` tells callbacks of each token too."""

    @property
    def _llm_type(self) -> str:
        return "ragx-chat"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=self.stop if stop is None else stop, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        question, history = asked(messages)
        documents = self._documents(search_query(question, history), kwargs)
        for piece in self._answer(question, documents, stop, kwargs, history):
            message = (
                AIMessageChunk(content=piece)
                if isinstance(piece, str)
                else _last(piece, kwargs.get("model", self.model))
            )
            yield ChatGenerationChunk(message=message)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        documents = await self._adocuments(search_query(*asked(messages)), kwargs)
        return await super()._agenerate(messages, stop, run_manager, documents=documents, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        documents = await self._adocuments(search_query(*asked(messages)), kwargs)
        async for chunk in super()._astream(messages, stop, run_manager, documents=documents, **kwargs):
            yield chunk


def asked(messages: Sequence[BaseMessage]) -> tuple[str, list[Message]]:
    """The question, which is the last human message, and the conversation before it.

    Raises:
        ConfigError: there is no question, or something else than text in it.
    """
    last = max((n for n, message in enumerate(messages) if isinstance(message, HumanMessage)), default=None)
    if last is None:
        raise ConfigError("the messages ask nothing: one must be a human's")
    for block in messages[last].content_blocks:
        if block["type"] != "text":
            raise ConfigError(f"a question is text; this one holds {block['type']!r} too")
    history = [
        Message(ROLES[message.type], without_surrogates(message.text))
        for message in messages[:last]
        if message.type in ROLES and message.text.strip()
    ]
    return question_text(messages[last].text), history


def _last(answer: Answer, model: str) -> AIMessageChunk:
    return AIMessageChunk(
        content="",
        usage_metadata=UsageMetadata(
            input_tokens=answer.prompt_tokens,
            output_tokens=answer.answer_tokens,
            total_tokens=answer.prompt_tokens + answer.answer_tokens,
        ),
        response_metadata={
            "model_name": model,
            "citations": [asdict(citation) for citation in answer.citations],
            "notes": answer.notes,
            "context_tokens": answer.context_tokens,
        },
        chunk_position="last",
    )
