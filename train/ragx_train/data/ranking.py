"""What a reranker is trained on: a question with a passage that answers it and others that do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from ragx.config import Chunking, IndexSettings
from ragx.corpus.questions import Question, parse_questions
from ragx.errors import CorpusError
from ragx.index.build import build_index
from ragx.index.index import Index
from ragx.retrieval.loading import open_embedder
from ragx.types import Passage, embedded_text
from ragx.util.device import cpu_cores
from ragx.util.files import durable_file
from ragx.util.jsonlines import load_objects
from ragx.util.progress import progress
from ragx.util.settings import Settings
from ragx_train.data.mining import Miner, RankedQuestion, question_passages
from ragx_train.data.questions import existing, is_held_out, questions_fingerprint
from ragx_train.errors import OutputError
from ragx_train.settings import Share


class RankingFile(Settings):
    """One file of questions."""

    path: str
    """JSON lines, compressed or not; a relative path starts from `data.folder`."""
    most: int | None = Field(default=None, ge=1)
    """Maximum questions of the file, chosen at random; null: all. All its passages can be negatives."""


class RankingSettings(Settings):
    """Which questions a reranker is trained on, and which passages it orders for them."""

    folder: str = "."
    files: list[RankingFile] = Field(min_length=1)
    test: Share = 0.05
    """Share of the articles reserved for validation, by the SHA-256 of their title (without a title, of their text)."""
    chunking: Chunking = Chunking()
    embedder: str = "all-minilm-l6-v2"
    """Of the index in which negatives are searched."""
    candidates: int = Field(default=20, ge=1)
    """Best passages of hybrid search: negatives are taken from them, and validation orders them."""
    negatives: int = Field(default=7, ge=1)
    """Passages without an answer beside one with an answer."""
    same_article: int = Field(default=1, ge=0)
    """How many of them are other passages of the same article."""

    @model_validator(mode="after")
    def _same_article_is_a_part(self) -> RankingSettings:
        if self.same_article > self.negatives:
            raise ValueError("same_article must be at most negatives")
        return self

    def paths(self) -> list[Path]:
        """Where the files are.

        Raises:
            ConfigError: one of them does not exist.
        """
        return existing(self.folder, [file.path for file in self.files])


@dataclass(frozen=True)
class Group:
    """A question with passages; the first one answers it."""

    question: str
    passages: list[str]


class Ranking:
    """Questions to train on and to validate with."""

    def __init__(self, index: Index, questions: Sequence[RankedQuestion], settings: RankingSettings) -> None:
        self._index = index
        self._settings = settings
        self.training = [each for each in questions if not each.held_out]
        self.held_out = [each for each in questions if each.held_out]

    def text(self, row: int) -> str:
        """A passage as retrieval and rerankers read it."""
        return embedded_text(self._index.passage(row))

    def passage(self, row: int) -> Passage:
        """A passage of the index."""
        return self._index.passage(row)

    def group(self, position: int, seed: int) -> Group:
        """The group at a position, as texts."""
        question, rows = self.rows(position, seed)
        return Group(question.question, [self.text(row) for row in rows])

    def rows(self, position: int, seed: int) -> tuple[RankedQuestion, list[int]]:
        """A question and its group. Each epoch has another order, other positives and other negatives."""
        epoch, number = divmod(position, len(self.training))
        question = self.training[np.random.default_rng([seed, epoch]).permutation(len(self.training))[number]]
        random = np.random.default_rng([seed, epoch, number])
        near = random.permutation(question.near)[: self._settings.same_article].tolist()
        found = random.permutation(question.negatives)[: self._settings.negatives - len(near)].tolist()
        return question, [int(random.choice(question.positives)), *map(int, found), *map(int, near)]


def load_ranking(settings: RankingSettings, folder: Path, seed: int) -> Ranking:
    """Index the passages of all questions and search for negatives, or read what an earlier call left in `folder`.

    Raises:
        ConfigError: a file does not exist.
        CorpusError: a file cannot be read, or has no question to train on.
        OutputError: `folder` cannot be written.
    """
    relevant = settings.model_dump(mode="json", exclude={"folder", "negatives", "same_article"})
    state = json.dumps([relevant, questions_fingerprint(settings.paths()), seed])
    folder /= hashlib.sha256(state.encode()).hexdigest()[:16]
    mined, index = folder / "questions.jsonl", folder / "index"
    if not mined.exists():
        _mine(settings, mined, index, seed)
    questions = [RankedQuestion(**row) for _, row in load_objects(mined)]
    return Ranking(Index.open(index), questions, settings)


def _mine(settings: RankingSettings, mined: Path, index: Path, seed: int) -> None:
    chosen: list[Question] = []
    everything: list[Question] = []
    random = np.random.default_rng(seed)
    for path, file in zip(settings.paths(), settings.files, strict=True):
        questions = [each for each in parse_questions(path) if each.gold and each.answers]
        everything += questions
        chosen += [questions[place] for place in random.permutation(len(questions))[: file.most]]
    if not chosen:
        raise CorpusError(f"{settings.folder}: no question to train on")
    embedder = open_embedder(settings.embedder)
    if not (index / "CURRENT").exists():
        options = IndexSettings(embedder=settings.embedder, chunking=settings.chunking)
        build_index(question_passages(everything, settings.chunking), index, embedder, options)
    miner = Miner(Index.open(index), embedder, settings.chunking, settings.candidates)
    with ThreadPoolExecutor(cpu_cores()) as threads:
        found = threads.map(lambda each: miner.mine(each, held_out=is_held_out(each, settings.test)), chosen)
        counted = progress(found, desc="searching for negatives", unit=" questions", total=len(chosen))
        rows = [each for each in counted if each is not None]
    if all(each.held_out for each in rows):
        raise CorpusError(f"{settings.folder}: no question to train on")
    with durable_file(mined, OutputError) as lines:
        lines.writelines(f"{json.dumps(asdict(each))}\n".encode() for each in rows)
