"""`ragx train answers`: the decoder's own answers with the gold passages in its prompt, where they are correct.

A reader trained on them keeps its decoder's style, and learns to say from its encoder what it says from its prompt
(sequence-level distillation: Kim and Rush, EMNLP 2016).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ragx.corpus.questions import Question, parse_question
from ragx.errors import CorpusError
from ragx.evaluation.metrics import contains
from ragx.models import resolve
from ragx.reader.prompt import build_prompt, question_fits
from ragx.util.files import durable_file
from ragx.util.jsonlines import load_objects
from ragx.util.sentences import sentence_spans
from ragx.util.terminal import notice
from ragx_train.data.written import BATCH, Row, answers, open_writer
from ragx_train.errors import Interrupted, OutputError, check_new
from ragx_train.signals import stop_on_signals

if TYPE_CHECKING:
    from ragx.reader.full import FullReader
    from ragx.util.tokenization import Tokenizer
    from ragx_train.data.questions import QuestionSettings
    from ragx_train.recipes.qa import QaSettings


@dataclass(frozen=True)
class Answerable:
    """A row of a file and its question."""

    content: Row
    question: Question
    """Its gold passages are cut down to the sentences that hold an answer."""


def write_own_answers(
    settings: QaSettings,
    out: Path,
    deadline: float | None = None,
    *,
    batch_size: int = BATCH,
    on_progress: Callable[[int], object] = lambda _: None,
) -> tuple[int, int]:
    """Write the rows of `settings.data.files` to `out` with the decoder's answer instead of theirs.

    Left out are rows whose own answers it does not contain, whose answer does not end, or whose question does not fit
    into a prompt. The order is random, by `settings.loop.seed`.

    Args:
        settings: of the recipe `qa`.
        out: a file that `qa` reads.
        deadline: no batch begins after it, in seconds of `time.monotonic`.
        batch_size: questions answered at once.
        on_progress: called after each batch with the number of questions asked so far.

    Returns:
        The numbers of rows written and of questions asked.

    Raises:
        ConfigError: a file does not exist.
        CorpusError: a file cannot be read, or no answer is correct.
        OutputError: `out` exists or cannot be written.
        Interrupted: SIGINT or SIGTERM was received; the correct answers so far have been written.
    """
    check_new(out)
    writer = open_writer(resolve(settings.model.decoder, "decoder"))
    rows = answerable(settings.data, writer.tokenizer, settings.loop.seed)
    done = written = 0
    progress = tqdm(desc=f"writing {out.name}", total=len(rows), unit=" questions")
    with stop_on_signals() as stop, durable_file(out, OutputError) as lines, progress:
        for start in range(0, len(rows), batch_size):
            if stop.requested or (deadline is not None and time.monotonic() > deadline):
                break
            batch = rows[start : start + batch_size]
            for row in correct_answers(batch, writer, settings.data):
                lines.write(json.dumps(row).encode() + b"\n")
                written += 1
            done += len(batch)
            progress.update(len(batch))
            on_progress(done)
        if not written:
            raise CorpusError(f"none of the decoder's answers to {done} questions is correct")
    if stop.requested:
        raise Interrupted(f"stopped by a signal: {written:,} correct answers to {done:,} questions in {out}")
    return written, done


def correct_answers(rows: Sequence[Answerable], writer: FullReader, settings: QuestionSettings) -> list[Row]:
    """The rows that the decoder answers correctly, with its answer instead of theirs."""
    questions = [row.question for row in rows]
    prompts = [
        build_prompt(writer.tokenizer, each.text, each.gold, max_tokens=settings.max_prompt_tokens).ids
        for each in questions
    ]
    texts = answers(writer, prompts, settings.max_answer_tokens)
    return [
        {**row.content, "answers": [text]}
        for row, text in zip(rows, texts, strict=True)
        if text is not None and contains(text, row.question.answers)
    ]


def quoted_answers(rows: Sequence[Answerable], tokenizer: Tokenizer, settings: QuestionSettings) -> list[Row]:
    """The rows whose gold passage has a sentence with an answer, if it is short enough, with it as the answer."""
    sentences = [row.question.gold[0].text for row in rows]
    return [
        {**row.content, "answers": [sentence]}
        for row, sentence, ids in zip(rows, sentences, tokenizer.plain_ids(sentences), strict=True)
        if len(ids) <= settings.max_answer_tokens and contains(sentence, row.question.answers)
    ]


def answerable(settings: QuestionSettings, tokenizer: Tokenizer, seed: int) -> list[Answerable]:
    """The rows of all files that have a gold passage and a question that fits into a prompt, in random order."""
    rows = []
    too_long = 0
    for path in settings.paths():
        for where, content in load_objects(path):
            question = parse_question(content, where)
            if not question.gold:
                continue
            if not question_fits(tokenizer, question.text, max_tokens=settings.max_prompt_tokens):
                too_long += 1
                continue
            gold = [replace(each, text=answer_sentence(each.text, question.answers)) for each in question.gold]
            rows.append(Answerable(content, replace(question, gold=gold)))
    if too_long:
        notice(f"{too_long} questions left out: longer than data.max_prompt_tokens")
    return [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]


def answer_sentence(text: str, answers: Sequence[str]) -> str:
    """The first sentence of a passage that contains an answer, or the whole passage if none does.

    A small decoder answers correctly far more often from the sentence than from the passage.
    """
    sentences = (text[start:end] for start, end in sentence_spans(text))
    return next((sentence for sentence in sentences if contains(sentence, answers)), text)
