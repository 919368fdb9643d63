"""Questions with their answers and the gold passages that hold them, from JSON lines.

A row is `{question, answers, title, context}`, or has `ctxs: [{title, text, is_gold}]` with other passages too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragx.errors import CorpusError
from ragx.types import Passage
from ragx.util.jsonlines import load_objects


@dataclass(frozen=True)
class Question:
    """One row."""

    text: str
    answers: list[str]
    """None where the row's passages do not hold one."""
    gold: list[Passage]
    others: list[Passage]
    """Passages of the row that are not gold."""
    where: str = ""
    """`path:line`, for messages."""
    passages: list[Passage] = field(default_factory=list)
    """All of them, in the order of the row."""

    @property
    def key(self) -> str:
        """Digest of the question, its answers and its gold passages."""
        content = json.dumps([self.text, self.answers, [[passage.title, passage.text] for passage in self.gold]])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def parse_questions(path: Path) -> Iterator[Question]:
    """The questions of a file, compressed or not.

    Raises:
        CorpusError: the file cannot be read, or a line is not a question; names file and line.
    """
    for where, row in load_objects(path):
        yield parse_question(row, where)


def parse_question(row: dict[str, Any], where: str = "") -> Question:
    """A row as a question; equal passages of several rows are equal.

    Raises:
        CorpusError: it is not one; the message begins with `where`.
    """
    text, answers, contexts = row.get("question"), row.get("answers"), row.get("ctxs") or []
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{where} has no `question`")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise CorpusError(f"{where} has no list of `answers`")
    if not isinstance(contexts, list) or not all(isinstance(context, dict) for context in contexts):
        raise CorpusError(f"{where}: `ctxs` is not a list of passages")
    passages = [_passage(context, where) for context in contexts]
    gold = [passage for passage, context in zip(passages, contexts, strict=True) if context.get("is_gold")]
    others = [passage for passage, context in zip(passages, contexts, strict=True) if not context.get("is_gold")]
    if not gold and row.get("context"):
        gold = [_passage({"title": row.get("title"), "text": row["context"]}, where)]
        passages = [*gold, *passages]
    return Question(text, answers, gold, others, where, passages)


def _passage(row: dict[str, Any], where: str) -> Passage:
    title, text = row.get("title") or "", row.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        raise CorpusError(f"{where} has a passage without a text")
    id = hashlib.sha256(f"{title}\n{text}".encode(errors="replace")).hexdigest()[:16]
    return Passage(id, document=title, title=title, text=text, position=0, start=0, end=len(text), source="")
