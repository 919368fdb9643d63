"""ChatRagx: messages in, a cited answer out, as a LangChain chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, NoReturn

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from ragx.errors import ConfigError
from ragx.langchain.answering import NO_SCHEMA, NO_TOOLS, Answering
from ragx.reader.conversation import question_text, search_queries
from ragx.types import Answer, Message
from ragx.util.text import without_surrogates

ROLES: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "human": "user", "ai": "assistant"}
"""LangChain message types that form a conversation, and their roles."""


class ChatRagx(Answering, BaseChatModel):
    """Answers the last human message from passages; settings are those of `Answering`.

    Earlier messages are its conversation: they are searched with the question too, and repeated in the prompt.

    The answer's `response_metadata` holds `citations`, `notes`, `model_name` and `context_tokens`; `usage_metadata`
    counts the tokens of the prompt and of the answer.

    >>> ChatRagx(index="my-index").invoke("When did we sign the lease?").content
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    streaming: bool = False
    """Whether `invoke` also reports each token to callbacks."""

    @property
    def _llm_type(self) -> str:
        return "ragx-chat"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=self.stop if stop is None else stop, **kwargs)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> NoReturn:
        """Not supported.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(NO_TOOLS)

    def with_structured_output(self, schema: Any, **kwargs: Any) -> NoReturn:
        """Not supported.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(NO_SCHEMA)

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
        question, history = split_question(messages)
        documents = self._documents(search_queries(question, history), kwargs)
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
        documents = await self._adocuments(search_queries(*split_question(messages)), kwargs)
        return await super()._agenerate(messages, stop, run_manager, documents=documents, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        documents = await self._adocuments(search_queries(*split_question(messages)), kwargs)
        async for chunk in super()._astream(messages, stop, run_manager, documents=documents, **kwargs):
            yield chunk


def split_question(messages: Sequence[BaseMessage]) -> tuple[str, list[Message]]:
    """Split messages into the question, which is the last human message, and the conversation before it.

    Raises:
        ConfigError: there is no question, or it is not only text.
    """
    last = max((n for n, message in enumerate(messages) if isinstance(message, HumanMessage)), default=None)
    if last is None:
        raise ConfigError("there is no question: the messages must include a human message")
    for block in messages[last].content_blocks:
        if block["type"] != "text":
            raise ConfigError(f"a question must be text only, got a block of type {block['type']!r}")
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
