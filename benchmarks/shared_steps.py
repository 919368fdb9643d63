"""Why eight answers at once are hardly faster than one after another: `python -m benchmarks.shared_steps`.

Prints what a prompt and a step cost on the CPU backend, and how two changes would affect them: one thread for each row
instead of all threads on every row, and prompts read in larger pieces (batching all prompts is the extreme case).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.cpu_backend import IN_PROMPT, STEPS, K, questions
from benchmarks.tables import markdown
from ragx.config import EncodingOptions
from ragx.engine.batching import LONG_PIECE
from ragx.engine.cpu.cache import compiled
from ragx.engine.cpu.model import CpuModel
from ragx.onnx.session import open_session
from ragx.reader.prompt import build_prompt, passage_text
from ragx.util.device import cpu_threads
from ragx.util.tokenization import Tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from ragx.engine.cpu.batch import CpuBatch
    from ragx.engine.cpu.passages import CpuContext, CpuSequence

ROWS, ANSWER, SHORT = 8, 64, 8
"""Answers at once, tokens of an answer, and tokens of a prompt to which attention costs nothing."""


class OneThread(CpuModel):
    """A compiled reader whose steps take one thread."""

    @cached_property
    def step_session(self) -> InferenceSession:
        return open_session(self.folder / "step.onnx", threads=1)


def run(rows: int = ROWS, steps: int = STEPS) -> str:
    """Markdown tables of medians."""
    folder = compiled(EncodingOptions().model)
    model, alone, tokenizer = CpuModel(folder), OneThread(folder), Tokenizer.open(folder)
    question, passages = next(questions(1))
    prompt = build_prompt(tokenizer, question, passages[:IN_PROMPT], max_tokens=6000)
    context = model.encode_passages(tokenizer.plain_ids([passage_text(each) for each in passages[:K]]))
    context.attend_from = prompt.question_start
    read = {piece: _read(model, context, prompt.ids, piece) for piece in (256, LONG_PIECE, len(prompt.ids))}
    sequence, short = read[LONG_PIECE][0], _read(model, None, prompt.ids[:SHORT], SHORT)[0]
    step = {}
    for count in (1, rows):
        whole, matrices = (_step(model, each, count, 1, steps) for each in (sequence, short))
        apart = _step(alone, sequence, count, min(count, cpu_threads()), steps)
        step[count] = (whole, matrices, whole - matrices, apart)
    one, together = step[1][0], step[rows][0]
    in_turn = rows * (read[LONG_PIECE][1] + ANSWER * one)
    at_once = rows * read[256][1] + ANSWER * together
    columns = ("answers in a step", "step, ms", "of it matrices", "of it attention", "a thread for each row, ms")
    cells = [(count, *(f"{1000 * value:.1f}" for value in values)) for count, values in step.items()]
    pieces = [(piece, f"{seconds:.2f}") for piece, (_, seconds) in read.items()]
    head = f"A prompt of {len(prompt.ids)} tokens, {context.tokens} tokens of passages, {cpu_threads()} threads."
    ratios = (
        f"{rows} answers of {ANSWER} tokens: {in_turn:.1f} s one after another, {at_once:.1f} s at once "
        f"({in_turn / at_once:.2f}); without the prompts {rows * one / together:.2f}."
    )
    tables = (markdown(columns, cells), markdown(("prompt tokens at a time", "prompt, s"), pieces))
    return "\n\n".join((head, *tables, ratios))


def _read(model: CpuModel, context: CpuContext | None, ids: list[int], piece: int) -> tuple[CpuSequence, float]:
    """The sequence after a prompt, and the seconds that reading it took."""
    sequence = model.sequence(context, len(ids) + STEPS + 1)
    start = time.perf_counter()
    for first in range(0, len(ids), piece):
        model.prefill(sequence, ids[first : first + piece], is_last=first + piece >= len(ids))
    return sequence, time.perf_counter() - start


def _step(model: CpuModel, sequence: CpuSequence, rows: int, parts: int, steps: int) -> float:
    """Seconds of a step of `rows` copies of a sequence, in batches on `parts` threads."""
    batches = [model.batch() for _ in range(parts)]
    for row in range(rows):
        batches[row % parts].join(replace(sequence, cache=[array.copy() for array in sequence.cache]))
    times = []
    with ThreadPoolExecutor(parts) as threads:
        for _ in range(steps):
            start = time.perf_counter()
            list(threads.map(partial(_decode, rows=rows // parts), batches))
            times.append(time.perf_counter() - start)
    return median(times)


def _decode(batch: CpuBatch, rows: int) -> None:
    batch.step([100] * rows)


if __name__ == "__main__":
    print(run())
