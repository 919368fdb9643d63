"""The conversation before a question: what retrieval and the prompt take from it."""

from __future__ import annotations

from collections.abc import Sequence

from ragx.corpus.document import normalise
from ragx.errors import ConfigError
from ragx.types import Message

SEARCHED_QUESTIONS = 2
"""Number of earlier questions added to the search query of a follow-up."""
SEARCHED_CHARACTERS = 200
"""Characters of each earlier question: an embedder reads a few hundred tokens and must reach the last question."""


def question_text(question: str) -> str:
    """The question, normalised as the text of documents is.

    Raises:
        ConfigError: it is empty.
    """
    if not question.strip():
        raise ConfigError("the question is empty")
    return normalise(question)


def search_queries(question: str, history: Sequence[Message]) -> list[str]:
    """The queries whose rankings are fused: the question alone, and with the questions before it.

    A follow-up ("And in winter?") says little without them; with them, a question about something new finds the old
    topic. Fused, with ties in favour of the question alone, both find their passages (`benchmarks/follow_ups.py`).
    """
    questions = [message.content[:SEARCHED_CHARACTERS] for message in history if message.role == "user"]
    return [question, "\n".join([*questions[-SEARCHED_QUESTIONS:], question])] if questions else [question]


def instructions(history: Sequence[Message]) -> str:
    """The system messages, one paragraph each, for chat templates without a system role."""
    return "\n\n".join(message.content for message in history if message.role == "system")


def turns(history: Sequence[Message]) -> list[list[Message]]:
    """The exchanges so far, oldest first: a user message, then the assistant's, as chat templates require.

    Consecutive messages of one role are merged; a message without a counterpart is left out.
    """
    merged: list[Message] = []
    for message in history:
        if message.role == "system":
            continue
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(message.role, f"{merged[-1].content}\n\n{message.content}")
        else:
            merged.append(message)
    if merged and merged[0].role == "assistant":
        merged = merged[1:]
    return [merged[start : start + 2] for start in range(0, len(merged) - 1, 2)]
