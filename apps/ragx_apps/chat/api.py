"""What `gradio_client` calls: `client.predict("A question?", api_name="/ask")`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
from pydantic import TypeAdapter, ValidationError

from ragx.cli.render import answer_json
from ragx.config import PROMPT_PASSAGES, SamplingParams
from ragx.errors import ConfigError, RagxError
from ragx.types import Answer, Message
from ragx.util.settings import checked
from ragx_apps.chat.indexes import Indexes
from ragx_apps.queue import QuestionQueue


def ask_with(indexes: Indexes, queue: QuestionQueue) -> Callable[..., Iterator[dict[str, Any]]]:
    """The endpoint over these indexes."""

    def ask(
        question: str,
        index: str | None = None,
        history: list[dict[str, str]] | None = None,
        k: int = 60,
        prompt_passages: int = PROMPT_PASSAGES,
        method: str = "hybrid",
        reader: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        where: str | None = None,
        effort: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Answer a question: {"answer": the text so far} as it grows, then the object that `ragx ask --json` prints.

        `index` is a name; `history` holds messages {"role": "user" or "assistant", "content": …}.
        """
        options: dict[str, Any] = {
            "k": k,
            "prompt_passages": prompt_passages,
            "method": method,
            "reader": reader,
            "where": where,
            "effort": effort,
        }
        text = ""
        try:
            options["history"] = _messages(history or [])
            options["sampling"] = checked(
                SamplingParams, {"max_new_tokens": max_new_tokens, "temperature": temperature}
            )
            rag = indexes.open(index)
            for event in queue.stream(partial(rag.ask, question, attention_shares=True, **options), threading.Event()):
                if isinstance(event, Answer):
                    yield json.loads(answer_json(question, event))
                elif isinstance(event, str):
                    text += event
                    yield {"answer": text}
        except RagxError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return ask


def _messages(history: list[dict[str, str]]) -> list[Message]:
    try:
        return TypeAdapter(list[Message]).validate_python(history)
    except ValidationError:
        raise ConfigError('history must hold messages {"role": "user" or "assistant", "content": …}') from None
