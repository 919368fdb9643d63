"""A question's conversation: what retrieval searches for, and what the prompt repeats of it."""

from __future__ import annotations

from collections.abc import Sequence

from ragx.types import Message

SEARCHED_QUESTIONS = 2
"""Earlier questions that a follow-up is searched together with."""
SEARCHED_CHARACTERS = 200
"""Of each: an encoder reads a few hundred tokens, and the last question must be among them."""


def search_query(question: str, history: Sequence[Message]) -> str:
    """What to search for: a follow-up ("And in winter?") says little without the questions before it."""
    asked = [message.content[:SEARCHED_CHARACTERS] for message in history if message.role == "user"]
    return "\n".join([*asked[-SEARCHED_QUESTIONS:], question])


def instructions(history: Sequence[Message]) -> str:
    """The system messages, one paragraph each: not every chat template has a place for them."""
    return "\n\n".join(message.content for message in history if message.role == "system")


def turns(history: Sequence[Message]) -> list[list[Message]]:
    """The exchanges so far, oldest first: each what the user said, then the assistant, as chat templates demand it.

    Messages of one side in a row become one; what has no counterpart is left out.
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
