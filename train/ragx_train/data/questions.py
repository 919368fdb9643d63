"""Questions to train on, grouped by their gold passages and split by article."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from ragx.corpus.questions import Question, parse_questions
from ragx.errors import ConfigError, CorpusError
from ragx.reader.prompt import question_fits
from ragx.types import Passage
from ragx.util.files import sha256
from ragx.util.settings import Settings
from ragx.util.terminal import notice
from ragx_train.data.documents import text_key
from ragx_train.settings import Share

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


class QuestionFile(Settings):
    """One file of questions."""

    path: str
    """JSON lines, compressed or not; a relative path starts from `data.folder`."""
    weight: int = Field(default=1, ge=1)
    """Relative sampling weight."""


class QuestionSettings(Settings):
    """Which questions to ask, and which passages to read for them."""

    folder: str = "."
    files: list[QuestionFile] = Field(min_length=1)
    test: Share = 0.05
    """Share of the articles reserved for validation, by the SHA-256 of their title (without a title, of their text)."""
    questions: int = Field(default=32, ge=1)
    """Maximum questions in an example; those about passages of the prompt are chosen first."""
    passages: tuple[int, int] = (4, 24)
    """Minimum and maximum of passages in the encoder: gold passages of questions, and distractors from their rows."""
    same_article: int = Field(default=4, ge=1)
    """Passages of one article that are read together, as close distractors for one another."""
    prompt_passages: tuple[int, int] = (0, 3)
    """Minimum and maximum of those passages that also stand in the prompt."""
    unanswerable: Share = 0.0
    """Share of the questions whose gold passages are left out; the right answer says that no passage has it."""
    max_prompt_tokens: int = Field(default=1024, ge=1)
    """Passages that do not fit beside the question are left out, and so are questions that do not fit alone."""
    max_passage_tokens: int = Field(default=384, ge=1)
    """Longer passages are truncated for the encoder."""
    max_answer_tokens: int = Field(default=64, ge=1)
    """Longer answers are left out."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> QuestionSettings:
        for name, (least, most) in (("passages", self.passages), ("prompt_passages", self.prompt_passages)):
            if not 0 <= least <= most:
                raise ValueError(f"{name} must be two ascending numbers, got {least} and {most}")
        return self

    def paths(self) -> list[Path]:
        """Where the files are.

        Raises:
            ConfigError: one of them does not exist.
        """
        return existing(self.folder, [file.path for file in self.files])


@dataclass(frozen=True)
class TrainingQuestion(Question):
    """A question with its answers as tokens."""

    answer_ids: list[list[int]] = field(kw_only=True)
    """Token ids of each answer that is short enough; at least one."""


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a file that are in one split."""

    weight: int
    groups: Sequence[Sequence[TrainingQuestion]]
    """Questions about the same gold passages form a group."""

    def order(self, same_article: int, random: np.random.Generator) -> list[int]:
        """A random order of `groups` in which up to `same_article` of one article are adjacent."""
        articles = defaultdict(list)
        for place in random.permutation(len(self.groups)).tolist():
            articles[self.groups[place][0].gold[0].title].append(place)
        runs = [
            places[start : start + same_article]
            for places in articles.values()
            for start in range(0, len(places), same_article)
        ]
        return [place for run in random.permutation(len(runs)) for place in runs[run]]


def load_questions(settings: QuestionSettings, tokenizer: Tokenizer) -> tuple[list[QuestionSet], list[QuestionSet]]:
    """The questions of each file to train on, and those about other articles for validation (possibly fewer files).

    Raises:
        ConfigError: a file does not exist.
        CorpusError: a file cannot be read, or has no question to train on.
    """
    training, held_out = [], []
    for path, file in zip(settings.paths(), settings.files, strict=True):
        train: dict[tuple[Passage, ...], list[TrainingQuestion]] = defaultdict(list)
        test: dict[tuple[Passage, ...], list[TrainingQuestion]] = defaultdict(list)
        left_out = 0
        for row in parse_questions(path):
            question = _training_question(row, settings, tokenizer)
            if question is None:
                left_out += 1
                continue
            (test if is_held_out(question, settings.test) else train)[tuple(question.gold)].append(question)
        if left_out:
            notice(f"{path.name}: {left_out} questions left out, without a gold passage or too long")
        if not train:
            raise CorpusError(f"{path} has no question to train on")
        training.append(QuestionSet(file.weight, list(train.values())))
        if test:
            held_out.append(QuestionSet(file.weight, list(test.values())))
    return training, held_out


def is_held_out(question: Question, share: float) -> bool:
    """Whether the article of its first gold passage is in the share of all articles that validation uses."""
    article = question.gold[0].title or question.gold[0].text
    return text_key(article) / 2.0**64 < share


def existing(folder: str, names: Sequence[str]) -> list[Path]:
    """The paths of files named by a setting `data.files`, relative to `folder`.

    Raises:
        ConfigError: one of them does not exist.
    """
    paths = [Path(folder, name).expanduser() for name in names]
    if missing := next((path for path in paths if not path.is_file()), None):
        raise ConfigError(f"data.files: {missing} does not exist")
    return paths


def questions_fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) of files of questions."""
    return hashlib.sha256(" ".join(sha256(path) for path in paths).encode()).hexdigest()


def _training_question(row: Question, settings: QuestionSettings, tokenizer: Tokenizer) -> TrainingQuestion | None:
    """The question with its short enough answers, or None if it has none, no gold passage or does not fit."""
    answers = [ids for ids in tokenizer.plain_ids(row.answers) if 0 < len(ids) <= settings.max_answer_tokens]
    if not row.gold or not answers:
        return None
    if not question_fits(tokenizer, row.text, max_tokens=settings.max_prompt_tokens):
        return None
    return TrainingQuestion(**vars(row), answer_ids=answers)
