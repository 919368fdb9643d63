"""`ragx train answers`: what the decoder itself answers with the gold passages in its prompt, where it is right.

A reader that learns these instead of the data's own answers need not unlearn how its decoder speaks, and says from its
encoder what it says from its prompt (sequence-level distillation: Kim and Rush, EMNLP 2016).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from ragx.errors import ConfigError, CorpusError
from ragx.evaluation.metrics import contains
from ragx.models import resolve
from ragx.reader.prompt import build_prompt, question_fits
from ragx.types import Passage
from ragx.util.files import durable_file
from ragx.util.sentences import sentence_spans
from ragx.util.terminal import notice
from ragx.util.tokenization import load_tokenizer
from ragx_train.data.questions import gold_passages, question_and_answers
from ragx_train.data.sources import rows
from ragx_train.signals import Interrupted, stop_on_signals

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ragx_train.recipes.qa import QaSettings

TOGETHER = 32
"""Questions that are answered at once."""


def write_own_answers(settings: QaSettings, out: Path, deadline: float | None = None) -> tuple[int, int]:
    """Write the rows of `settings.data.files` to `out`, in an order drawn by the seed, with the decoder's own answer
    as the only one; rows whose gold answers are not in it, whose answer does not end, or whose question is too long
    for a prompt, are left out.

    Args:
        settings: of `qa`.
        out: JSON lines, that `qa` reads as a file of questions.
        deadline: by `time.monotonic`; the rows after it are left out.

    Returns:
        How many rows were written, and of how many that were asked.

    Raises:
        ConfigError: `out` exists, or a file is not there.
        CorpusError: a file cannot be read, or no answer is right.
        IndexFolderError: `out` cannot be written.
        Interrupted: Ctrl-C or SIGTERM came; the right answers up to then have been written.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already: give --out another name")
    decoder = resolve(settings.model.decoder, "decoder")
    tokenizer = load_tokenizer(decoder)
    asked: list[tuple[dict[str, Any], list[Passage]]] = []
    too_long = 0
    for file in settings.data.files:
        path = Path(settings.data.folder, file.path).expanduser()
        if not path.is_file():
            raise ConfigError(f"data.files: there is no {path}")
        for number, row in rows(path):
            where = f"{path}:{number}"
            question, answers = question_and_answers(row, where)
            evidence = [replace(each, text=telling(each.text, answers)) for each in gold_passages(row, where)]
            if evidence and question_fits(tokenizer, question, max_tokens=settings.data.max_prompt_tokens):
                asked.append((row, evidence))
            elif evidence:
                too_long += 1
    if too_long:
        notice(f"{too_long} questions are too long for data.max_prompt_tokens and are left out")
    dtype = torch.bfloat16 if settings.loop.precision == "bf16" else torch.float32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(decoder, dtype=dtype, local_files_only=True)
    model.to(device)
    order = np.random.default_rng(settings.loop.seed).permutation(len(asked)).tolist()
    done = written = 0
    progress = tqdm(desc=f"writing {out.name}", total=len(asked), unit=" questions")
    with stop_on_signals() as stop, durable_file(out) as lines, progress:
        for start in range(0, len(order), TOGETHER):
            if stop.requested or (deadline is not None and time.monotonic() > deadline):
                break
            batch = [asked[place] for place in order[start : start + TOGETHER]]
            prompts = [
                build_prompt(tokenizer, row["question"], evidence, max_tokens=settings.data.max_prompt_tokens).ids
                for row, evidence in batch
            ]
            said = answer(model, tokenizer, prompts, settings.data.max_answer_tokens)
            for (row, _), text in zip(batch, said, strict=True):
                if text is not None and contains(text, row["answers"]):
                    lines.write(json.dumps({**row, "answers": [text]}).encode() + b"\n")
                    written += 1
            done += len(batch)
            progress.update(len(batch))
        if not written:
            raise CorpusError(f"none of the decoder's answers to {done} questions is right")
    if stop.requested:
        raise Interrupted(f"stopped by a signal: {written:,} right answers to {done:,} questions in {out}")
    return written, done


@torch.inference_mode()
def answer(
    model: Any, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[list[int]], max_tokens: int
) -> list[str | None]:
    """The greedy answer to each prompt, None where it has not ended within `max_tokens`."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), tokenizer.eos_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # padded at the start: answers begin in the same column
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    said = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )[:, longest:].tolist()
    return [
        str(tokenizer.decode(row[: row.index(tokenizer.eos_token_id)])).strip()
        if tokenizer.eos_token_id in row
        else None
        for row in said
    ]


def telling(text: str, answers: Sequence[str]) -> str:
    """The first sentence of a passage that an answer stands in, or the whole passage where none does.

    A small decoder is right far more often from the sentence than from the passage.
    """
    sentences = (text[start:end] for start, end in sentence_spans(text))
    return next((sentence for sentence in sentences if contains(sentence, answers)), text)
