"""Questions with their gold passages, and splits by article.

A row is `{question, answers, title, context}`, or has `ctxs: [{title, text, is_gold}]` with distractors of its own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from ragx.config import Settings
from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.questions import own_passages
from ragx.reader.prompt import question_fits
from ragx.types import Passage
from ragx.util.files import sha256
from ragx.util.terminal import notice
from ragx.util.tokenization import plain_ids
from ragx_train.data.documents import text_key
from ragx_train.data.sources import rows
from ragx_train.settings import Share

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class QuestionFile(Settings):
    """One file of questions."""

    path: str
    """JSON lines, also `.gz`, `.xz` or `.zst`; a relative path starts from `data.folder`."""
    weight: int = Field(default=1, ge=1)
    """So many of its questions come for `weight` ones of another file."""


class QuestionSettings(Settings):
    """Which questions, and how many passages around their gold ones."""

    folder: str = "."
    files: list[QuestionFile] = Field(min_length=1)
    test: Share = 0.05
    """Share of the articles kept for validation, by the SHA-256 of their title (of their text where they have none)."""
    questions: int = Field(default=32, ge=1)
    """At most so many questions make up an example; those about passages of the prompt come first, then others."""
    passages: tuple[int, int] = (4, 24)
    """Least and most passages in the encoder. Each is what some question is about, or a row's own distractor."""
    same_article: int = Field(default=4, ge=1)
    """So many passages of one article come together, each other's nearest distractors."""
    prompt_passages: tuple[int, int] = (0, 3)
    """Least and most of these passages that stand in the prompt too."""
    max_prompt_tokens: int = Field(default=1024, ge=1)
    """Passages that do not fit beside the question are left out, and a question that does not fit alone is too."""
    max_passage_tokens: int = Field(default=384, ge=1)
    """What is beyond in a passage is cut off for the encoder."""
    max_answer_tokens: int = Field(default=64, ge=1)
    """Questions with a longer first answer are left out."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> QuestionSettings:
        for name, (least, most) in (("passages", self.passages), ("prompt_passages", self.prompt_passages)):
            if not 0 <= least <= most:
                raise ValueError(f"{name} must be two ascending numbers, not {least} and {most}")
        return self


@dataclass(frozen=True)
class Question:
    """One question that a passage answers."""

    text: str
    answers: list[list[int]]
    """Token ids of each answer that is short enough; there is at least one."""
    gold: list[Passage]
    distractors: list[Passage]
    """The row's own."""
    origin: str


@dataclass
class QuestionSet:
    """A file's questions of one split."""

    weight: int
    groups: list[list[Question]] = field(default_factory=list)
    """The questions, those about the same gold passages together."""
    _groups: dict[tuple[Passage, ...], list[Question]] = field(default_factory=dict)

    def add(self, question: Question) -> None:
        """Take in a question."""
        gold = tuple(question.gold)
        if gold not in self._groups:
            self._groups[gold] = []
            self.groups.append(self._groups[gold])
        self._groups[gold].append(question)

    @property
    def questions(self) -> list[Question]:
        """All of them."""
        return [question for group in self.groups for question in group]

    def order(self, same_article: int, random: np.random.Generator) -> list[int]:
        """Places of `groups`, shuffled, but up to `same_article` of one article side by side."""
        articles = defaultdict(list)
        for place in random.permutation(len(self.groups)).tolist():
            articles[self.groups[place][0].gold[0].title].append(place)
        runs = [
            places[start : start + same_article]
            for places in articles.values()
            for start in range(0, len(places), same_article)
        ]
        return [place for run in random.permutation(len(runs)) for place in runs[run]]


def load_questions(
    settings: QuestionSettings, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[QuestionSet], list[QuestionSet]]:
    """The questions of each file for training, and those of other articles for validation (maybe of fewer files).

    Raises:
        ConfigError: a file is not there.
        CorpusError: a file cannot be read, or has no question to train on.
    """
    training, held_out = [], []
    for file in settings.files:
        path = Path(settings.folder, file.path).expanduser()
        if not path.is_file():
            raise ConfigError(f"data.files: there is no {path}")
        train, test = QuestionSet(file.weight), QuestionSet(file.weight)
        left_out = 0
        for number, row in rows(path):
            question = _question(row, f"{path}:{number}", settings, tokenizer)
            if question is None:
                left_out += 1
                continue
            article = question.gold[0].title or question.gold[0].text
            (test if text_key(article) / 2.0**64 < settings.test else train).add(question)
        if left_out:
            notice(f"{path.name}: {left_out} rows without a passage, a short answer or a short question are left out")
        if not train.groups:
            raise CorpusError(f"{path} has no question to train on")
        training.append(train)
        if test.groups:
            held_out.append(test)
    return training, held_out


def questions_fingerprint(settings: QuestionSettings) -> str:
    """SHA-256 (hex) of the files."""
    digests = [sha256(Path(settings.folder, file.path).expanduser()) for file in settings.files]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _question(
    row: dict[str, Any], where: str, settings: QuestionSettings, tokenizer: PreTrainedTokenizerFast
) -> Question | None:
    """The row's question, or None where it has no gold passage, or no answer or question that is short enough."""
    text, answers = question_and_answers(row, where)
    gold = gold_passages(row, where)
    ids = [each for each in plain_ids(tokenizer, answers) if 0 < len(each) <= settings.max_answer_tokens]
    if not gold or not ids or not text.strip():
        return None
    if not question_fits(tokenizer, text, max_tokens=settings.max_prompt_tokens):
        return None
    distractors = [_passage(each, where) for each in own_passages(row, where) if not each.get("is_gold")]
    return Question(text, ids, gold, distractors, where)


def question_and_answers(row: dict[str, Any], where: str) -> tuple[str, list[str]]:
    """A row's question and its answers; `where` the row stands is for messages.

    Raises:
        CorpusError: it has none.
    """
    text, answers = row.get("question"), row.get("answers")
    if not isinstance(text, str) or not isinstance(answers, list) or not all(isinstance(each, str) for each in answers):
        raise CorpusError(f"{where} is no question: it needs a `question` and a list of `answers`")
    return text, answers


def gold_passages(row: dict[str, Any], where: str) -> list[Passage]:
    """The passages that answer a row's question; `where` the row stands is for messages.

    Raises:
        CorpusError: one of them has no text, or its `ctxs` are no list of passages.
    """
    gold = [_passage(each, where) for each in own_passages(row, where) if each.get("is_gold")]
    if not gold and row.get("context"):
        gold = [_passage({"title": row.get("title"), "text": row["context"]}, where)]
    return gold


def _passage(row: dict[str, Any], where: str) -> Passage:
    title, text = row.get("title") or "", row.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        raise CorpusError(f"{where} has a passage without a text")
    return Passage(id="", document=title, title=title, text=text, position=0, start=0, end=len(text), source="")
