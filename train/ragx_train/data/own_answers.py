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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from ragx.corpus.questions import Question, parse_question
from ragx.errors import CorpusError
from ragx.evaluation.metrics import contains
from ragx.models import resolve
from ragx.reader.prompt import build_prompt, question_fits
from ragx.util.files import durable_file
from ragx.util.jsonlines import load_objects
from ragx.util.sentences import sentence_spans
from ragx.util.terminal import notice
from ragx.util.tokenization import load_tokenizer
from ragx_train.data.example import end_of_text
from ragx_train.errors import Interrupted, OutputError, check_new
from ragx_train.signals import stop_on_signals

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer
    from ragx_train.data.questions import QuestionSettings
    from ragx_train.recipes.qa import QaSettings

BATCH = 32
"""Questions answered at once."""


@dataclass(frozen=True)
class _Row:
    content: dict[str, Any]
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
    decoder = resolve(settings.model.decoder, "decoder")
    tokenizer = load_tokenizer(decoder)
    rows = _rows(settings.data, tokenizer)
    dtype = torch.bfloat16 if settings.loop.precision == "bf16" else torch.float32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(decoder, dtype=dtype, local_files_only=True)
    model.to(device)
    order = np.random.default_rng(settings.loop.seed).permutation(len(rows)).tolist()
    done = written = 0
    progress = tqdm(desc=f"writing {out.name}", total=len(rows), unit=" questions")
    with stop_on_signals() as stop, durable_file(out, OutputError) as lines, progress:
        for start in range(0, len(order), batch_size):
            if stop.requested or (deadline is not None and time.monotonic() > deadline):
                break
            batch = [rows[place] for place in order[start : start + batch_size]]
            questions = [row.question for row in batch]
            prompts = [
                build_prompt(tokenizer, each.text, each.gold, max_tokens=settings.data.max_prompt_tokens).ids
                for each in questions
            ]
            texts = answer(model, tokenizer, prompts, settings.data.max_answer_tokens)
            for row, text in zip(batch, texts, strict=True):
                if text is not None and contains(text, row.question.answers):
                    lines.write(json.dumps({**row.content, "answers": [text]}).encode() + b"\n")
                    written += 1
            done += len(batch)
            progress.update(len(batch))
            on_progress(done)
        if not written:
            raise CorpusError(f"none of the decoder's answers to {done} questions is correct")
    if stop.requested:
        raise Interrupted(f"stopped by a signal: {written:,} correct answers to {done:,} questions in {out}")
    return written, done


def _rows(settings: QuestionSettings, tokenizer: Tokenizer) -> list[_Row]:
    """The rows of all files that have a gold passage and a question that fits into a prompt."""
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
            rows.append(_Row(content, replace(question, gold=gold)))
    if too_long:
        notice(f"{too_long} questions left out: longer than data.max_prompt_tokens")
    return rows


@torch.inference_mode()
def answer(model: Any, tokenizer: Tokenizer, prompts: Sequence[list[int]], max_tokens: int) -> list[str | None]:
    """The greedy answer to each prompt; None if it does not end within `max_tokens`."""
    longest = max(map(len, prompts))
    end = end_of_text(tokenizer)
    ids = torch.full((len(prompts), longest), end)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # padded at the start, so that all answers begin in the same column
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    answers = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )[:, longest:].tolist()
    return [tokenizer.decode(row[: row.index(end)]).strip() if end in row else None for row in answers]


def answer_sentence(text: str, answers: Sequence[str]) -> str:
    """The first sentence of a passage that contains an answer, or the whole passage if none does.

    A small decoder answers correctly far more often from the sentence than from the passage.
    """
    sentences = (text[start:end] for start, end in sentence_spans(text))
    return next((sentence for sentence in sentences if contains(sentence, answers)), text)
