"""What the decoder writes to be trained on: its own answers to questions, and its own questions about an index."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ragx.evaluation.writing import write_questions
from ragx.index import Index
from ragx.models import resolve
from ragx.types import Passage
from ragx.util.tokenization import load_tokenizer
from ragx_train.data.own_answers import answerable, correct_answers, quoted_answers
from ragx_train.data.questions import QuestionFile, QuestionSettings
from ragx_train.data.written import journal_seconds, open_writer, write_journalled
from ragx_train.engine.loop import Run
from ragx_train.recipes.reader.options import QUESTIONS, ReaderData, ReaderSettings

FOLDER, ANSWERS, QUOTES, INDEX = "questions", "answers.jsonl", "quotes.jsonl", "index.jsonl"
QUOTED_AT_A_TIME = 1024
WRITING = ".writing"
"""Writing as a part of the run; a dot cannot be in a stage's name."""


def write_own(settings: ReaderSettings, run: Run, seconds: float | None) -> ReaderData:
    """Write answers and questions into `run.out/questions`, in `seconds`; return the data with these files.

    Few of the questions in files can be answered in this time, and fewer correctly. So the reader also learns to quote
    the sentence that holds the answer, from all of them.

    Raises:
        ConfigError, CorpusError: a file does not exist or cannot be read.
        IndexFolderError: there is no index, or it is damaged.
        Interrupted: a signal was received; what has been written is kept.
    """
    data = settings.data
    decoder = resolve(settings.model.decoder, "decoder")
    tokenizer, writer = load_tokenizer(decoder), cache(lambda: open_writer(decoder))
    questions = data.questions or QuestionSettings(files=[QuestionFile(path=INDEX)], **QUESTIONS)
    from_files = data.questions is not None and data.own_answers
    if seconds is not None and from_files and data.index is not None:
        seconds /= 2
    files = list(questions.files) if data.questions is not None and not data.own_answers else []
    if from_files:
        write_journalled(
            path := run.out / FOLDER / ANSWERS,
            lambda: answerable(questions, tokenizer, settings.loop.seed),
            lambda rows: correct_answers(rows, writer(), questions),
            seconds=seconds,
            clock=run.clock,
        )
        files += _weighted(path)
        write_journalled(
            path := run.out / FOLDER / QUOTES,
            lambda: answerable(questions, tokenizer, settings.loop.seed),
            lambda rows: quoted_answers(rows, tokenizer, questions),
            seconds=None,
            batch=QUOTED_AT_A_TIME,
        )
        files += _weighted(path)
    if data.index is not None:
        index = Index.open(Path(data.index).expanduser())
        write_journalled(
            path := run.out / FOLDER / INDEX,
            lambda: _in_random_order(index, settings.loop.seed),
            lambda passages: write_questions(passages, writer(), max_tokens=questions.max_answer_tokens),
            seconds=seconds,
            clock=run.clock,
        )
        files += _weighted(path)
    return data.model_copy(update={"questions": questions.model_copy(update={"files": files})})


def seconds_written(out: Path) -> float:
    """Time spent on writing so far."""
    return sum(journal_seconds(out / FOLDER / name) for name in (ANSWERS, INDEX))


def _in_random_order(index: Index, seed: int) -> list[Passage]:
    """The passages of an index that have text."""
    passages = [passage for passage in index.live_passages() if passage.text.strip()]
    return [passages[place] for place in np.random.default_rng(seed).permutation(len(passages))]


def _weighted(path: Path) -> list[QuestionFile]:
    """A written file, each of its rows with the same weight; none if it is empty."""
    rows = path.read_bytes().count(b"\n")
    return [QuestionFile(path=str(path.absolute()), weight=rows)] if rows else []
