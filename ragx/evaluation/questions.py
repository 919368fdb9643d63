"""The questions of an evaluation, and distractors for them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from ragx.corpus.questions import Question, parse_questions
from ragx.errors import CorpusError
from ragx.evaluation.metrics import contains_normalised, normalise
from ragx.types import Passage

T = TypeVar("T")


def read_questions(path: Path) -> list[Question]:
    """The questions of a file of JSON lines, compressed or not.

    Raises:
        CorpusError: the file cannot be read, has no question, or a line is not a question with an answer.
    """
    questions = list(parse_questions(path))
    if not questions:
        raise CorpusError(f"{path} has no question")
    if unanswered := next((question for question in questions if not question.answers), None):
        raise CorpusError(f"{unanswered.where} has no list of `answers`")
    return questions


def distractors(question: Question, pool: Iterable[tuple[Passage, str]], count: int) -> list[Passage]:
    """Up to `count` passages drawn for the question, always the same ones, none of which holds an answer.

    Args:
        question: with its gold passages, which are not drawn.
        pool: passages and their normalised texts; see `normalised_passages`.
        count: how many to draw; fewer come where the pool has no more.
    """
    order = list(pool)
    random.Random(question.key).shuffle(order)
    taken = {passage.text for passage in question.gold}
    found: list[Passage] = []
    for passage, text in order:
        if len(found) == count:
            break
        if passage.text not in taken and not contains_normalised(text, question.answers):
            taken.add(passage.text)
            found.append(passage)
    return found


def normalised_passages(questions: Iterable[Question]) -> list[tuple[Passage, str]]:
    """Every passage of the questions, each text once, and its normalised title and text."""
    passages = {passage.text: passage for question in questions for passage in (*question.gold, *question.others)}
    return [(passage, normalise(f"{passage.title} {passage.text}")) for passage in passages.values()]


def spread(questions: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` questions at equal distances, since neighbours in a file are often about one article."""
    if limit is None or limit >= len(questions):
        return list(questions)
    return [questions[place * len(questions) // limit] for place in range(limit)]
