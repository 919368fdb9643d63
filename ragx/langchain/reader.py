"""ChatModelReader: any LangChain chat model reads the passages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import Runnable

from ragx.config import LoadOptions, SamplingParams
from ragx.engine.chat import ChatEnd
from ragx.reader.chat import ChatReader
from ragx.types import Message

LENGTH = ("length", "max_tokens", "MAX_TOKENS")
"""What providers call the end of an answer at its maximum length."""
REASONS = ("finish_reason", "stop_reason", "done_reason")


class ChatModelReader(ChatReader):
    """Reads with a LangChain chat model, or one with settings bound to it.

    Temperature, length and other settings are the model's own; of `SamplingParams` only the stop strings are used.

    >>> from ragx.rag import RAG, open_index
    >>> rag = RAG(open_index("my-index"), readers={"full": ChatModelReader(llm)})
    """

    def __init__(
        self, llm: Runnable[Any, Any], *, window: int | None = None, timeout: float = LoadOptions().timeout
    ) -> None:
        """Wrap a chat model.

        Args:
            llm: the chat model.
            window: maximum number of tokens it reads; None: what its profile says.
            timeout: seconds that it may stay silent.
        """
        profile = getattr(llm, "profile", None) or {}
        super().__init__(_ChatModel(llm, window or profile.get("max_input_tokens")), timeout)


class _ChatModel:
    def __init__(self, llm: Runnable[Any, Any], window: int | None) -> None:
        self.name, self.window = llm.get_name(), window
        self._llm = llm

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams
    ) -> AsyncGenerator[str | ChatEnd, None]:
        said = [(message.role, message.content) for message in messages]
        whole: AIMessageChunk | None = None
        options: dict[str, Any] = {"stop": list(sampling.stop)} if sampling.stop else {}
        async for chunk in self._llm.astream(said, **options):
            whole = chunk if whole is None else whole + chunk
            yield chunk.text
        usage = whole.usage_metadata if whole else None
        reasons = [whole.response_metadata.get(name) for name in REASONS] if whole else []
        yield ChatEnd(
            "length" if any(reason in LENGTH for reason in reasons) else "stop",
            usage and usage["input_tokens"],
            usage and usage["output_tokens"],
        )

    async def close(self) -> None:
        """The model is the caller's."""
