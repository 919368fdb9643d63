"""Demonstrations: questions with the answers that are wanted, to be imitated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ragx.errors import CorpusError
from ragx.reader.conversation import question_text
from ragx.types import Message
from ragx.util.jsonlines import load_objects

Example = tuple[str, str]
"""A question and its answer."""


def read_examples(path: Path) -> list[Example]:
    """Rows with `question` and `answer`, or `answers`, where only the first is used.

    Raises:
        CorpusError: the file cannot be read, has no row, or a row has no question or answer; names file and line.
    """
    examples = []
    for where, row in load_objects(path):
        question, answer = row.get("question"), row.get("answer")
        if answer is None and isinstance(answers := row.get("answers"), list):
            answer = next(iter(answers), None)
        if not all(isinstance(text, str) and text.strip() for text in (question, answer)):
            raise CorpusError(f"{where} has no `question` and `answer`")
        examples.append((question_text(str(question)), question_text(str(answer))))
    if not examples:
        raise CorpusError(f"{path} has no examples")
    return examples


def as_turns(examples: Sequence[Example]) -> list[list[Message]]:
    """Each example as a turn of a conversation."""
    return [[Message("user", question), Message("assistant", answer)] for question, answer in examples]


def encoded_text(turn: Sequence[Message]) -> str:
    """An example, or a turn that does not fit the prompt, as the encoder reads it."""
    question, answer = turn
    return f"Question: {question.content}\nAnswer: {answer.content}"
