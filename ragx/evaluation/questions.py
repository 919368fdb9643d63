"""Questions with their answers, and perhaps the gold passages that hold them.

A row is `{question, answers, title, context}`, or has `ctxs: [{title, text, is_gold}]` with passages beside the gold.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragx.corpus.formats import UNREADABLE, open_bytes
from ragx.errors import CorpusError
from ragx.evaluation.metrics import contains_normalised, normalise
from ragx.types import Passage


@dataclass(frozen=True)
class Question:
    """One row."""

    key: str
    """Digest of the question, its answers and its gold passages."""
    text: str
    answers: list[str]
    gold: list[Passage]
    others: list[Passage]
    """Passages of the row that are not gold."""


def read_questions(path: Path) -> list[Question]:
    """The questions of a file of JSON lines, perhaps compressed (.gz, .bz2, .xz).

    Raises:
        CorpusError: the file cannot be read, or a line is no question; names file and line.
    """
    questions = [_question(row, f"{path}:{number}") for number, row in _objects(path)]
    if not questions:
        raise CorpusError(f"{path} has no question")
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


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise CorpusError(f"{path}:{number} is not a JSON object")
                    yield number, row
    except UNREADABLE as error:
        raise CorpusError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except ValueError:  # not JSON, or not UTF-8
        raise CorpusError(f"{path}:{number} is not valid JSON") from None


def _question(row: dict[str, Any], where: str) -> Question:
    text, answers = row.get("question"), row.get("answers")
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{where} has no `question`")
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise CorpusError(f"{where} has no list of `answers`")
    contexts = own_passages(row, where)
    gold = [_passage(each, where) for each in contexts if each.get("is_gold")]
    if not gold and row.get("context"):
        gold = [_passage({"title": row.get("title"), "text": row["context"]}, where)]
    others = [_passage(each, where) for each in contexts if not each.get("is_gold")]
    content = json.dumps([text, answers, [[passage.title, passage.text] for passage in gold]])
    return Question(hashlib.sha256(content.encode()).hexdigest()[:16], text, answers, gold, others)


def own_passages(row: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """A row's `ctxs`, which may be missing; `where` the row stands is for messages.

    Raises:
        CorpusError: they are no list of objects.
    """
    contexts = row.get("ctxs") or []
    if not isinstance(contexts, list) or not all(isinstance(each, dict) for each in contexts):
        raise CorpusError(f"{where}: `ctxs` is not a list of passages")
    return contexts


def _passage(row: dict[str, Any], where: str) -> Passage:
    title, text = row.get("title") or "", row.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        raise CorpusError(f"{where} has a passage without a text")
    return Passage(where, where, title, text, position=0, start=0, end=len(text), source=where)
