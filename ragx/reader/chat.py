"""The chat reader: a chat model, behind an API or of another library, with the best passages in its messages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragx.config import NO_LIMIT, LoadOptions, SamplingParams
from ragx.engine.chat import ChatLoop, ChatModel, ChatStream
from ragx.errors import ConfigError
from ragx.reader.base import PreparedPrompt, Reader, answer_room, window_notes
from ragx.reader.prompt import build_messages, estimate_tokens, question_messages
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from ragx.cepe.store import OnEncoded

ASSUMED_WINDOW = 32_768
"""Tokens of a model that does not tell its window: hosted models have at least as many."""


class ChatReader(Reader):
    """Reads as `full` does, but for `prompt_passages`, which limits it: an API charges for what it reads.

    Nothing is known of the model's tokenizer: passages are chosen by an estimate (`estimate_tokens`).
    """

    def __init__(self, model: ChatModel, timeout: float = LoadOptions().timeout) -> None:
        """`timeout`: seconds that the model may stay silent."""
        self.model = model
        self._loop = ChatLoop(model, timeout)

    @property
    def decoder_window(self) -> int:
        return self.model.window or ASSUMED_WINDOW

    def fingerprint(self) -> str:
        return self.model.name

    def reserve(self, size: int) -> int:
        return size

    def fits(self, question: str, *, answer: int) -> bool:
        return estimate_tokens(question_messages(question)) + answer <= self.decoder_window

    def prepare(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        prompt_passages: int,
        sampling: SamplingParams,
        history: Sequence[Message] = (),
        scores: Sequence[float] | None = None,
        task: Task = ANSWER,
        on_encoded: OnEncoded | None = None,
    ) -> PreparedPrompt:
        del scores, on_encoded  # the best passages come first
        window, wanted = self.decoder_window, sampling.max_new_tokens
        answer = answer_room(window, estimate_tokens(question_messages(question, history, task)), wanted)
        passages = passages if task.is_document else passages[:prompt_passages]
        prompt = build_messages(question, passages, max_tokens=window - answer, history=history, task=task)
        left = window - estimate_tokens(prompt.messages)
        return PreparedPrompt(prompt, None, window_notes(window, prompt.passages, len(passages), left, wanted))

    def stream(
        self, prepared: PreparedPrompt, sampling: SamplingParams, cancel: threading.Event | None = None
    ) -> ChatStream:
        if sampling.json_schema is not None or sampling.top_logprobs is not None:
            raise ConfigError("a model behind an API answers without a JSON schema or log probabilities")
        messages = prepared.prompt.messages
        if sampling.max_new_tokens > self.decoder_window - estimate_tokens(messages):
            sampling = sampling.model_copy(update={"max_new_tokens": NO_LIMIT})  # the model knows what fits
        return self._loop.stream(messages, sampling, cancel or threading.Event())

    def close(self) -> None:
        self._loop.close()


def open_chat_reader(options: LoadOptions) -> ChatReader:
    """The reader of a model behind an API.

    Raises:
        ModelError, EndpointError, ConfigError: as `Endpoint`.
    """
    from ragx.engine.endpoint import Endpoint

    return ChatReader(Endpoint(options), options.timeout)
