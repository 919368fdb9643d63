"""The CPU backend beside torch: `python -m benchmarks.cpu_backend [accuracy | speed | answers QUESTIONS]`.

accuracy: KL divergence of next tokens from the torch model in float32, on text that follows a prompt with ten passages
    while sixty are attended to; the text is given, so that both models see the same tokens.
answers: questions of a file (JSON lines with `question`, `answers`, `context`) answered right, with
    the gold passage and nine others in the encoder alone, paired by question.
speed: seconds of one answer's parts, in one process, for each backend and number format.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import sample
from benchmarks.tables import markdown
from ragx import cepe
from ragx.config import EncodingOptions, ModelOptions, SamplingParams
from ragx.engine.backend import DecoderModel, decoder_of
from ragx.engine.batching import LONG_PIECE
from ragx.engine.open import open_model
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.metrics import contains
from ragx.evaluation.questions import distractors, normalised_passages, read_questions
from ragx.rag import DEFAULT_MODEL
from ragx.reader.loading import open_reader
from ragx.reader.prompt import build_prompt, passage_text
from ragx.retrieval import open_index
from ragx.types import Passage

K, IN_PROMPT, TOKENS = 60, 10, 100
"""Passages attended to, passages in the prompt, and tokens of text after it."""
ROUNDS, STEPS = 3, 30
QUESTIONS, OTHERS = 200, 9
SAMPLING = SamplingParams(max_new_tokens=32)


def accuracy() -> str:
    """A Markdown table over the sample's questions, 2,000 tokens in all."""
    compiled, tokenizer = open_model(EncodingOptions(backend="cpu"))
    reference = cepe.load(DEFAULT_MODEL, dtype="float32", device="cpu")
    rows: dict[str, list[tuple[float, bool]]] = {"prompt": [], "steps": []}
    for question, passages in questions(20):
        prompt = build_prompt(tokenizer, question, passages[:IN_PROMPT], max_tokens=6000).ids
        text = tokenizer.plain_ids([passage_text(passages[K])])[0][:TOKENS]
        ids = tokenizer.plain_ids([passage_text(passage) for passage in passages[:K]])
        with torch.inference_mode():
            context = reference.encode_passages(ids)
            context.gain = reference.prompted_gain
            output = reference(torch.tensor([prompt + text]), context=context, logits_to_keep=len(text) + 1)
        expected = output.logits[0].float().numpy()
        logits = list(_logits(compiled, ids, prompt, text))
        pairs = [_compare(*pair) for pair in zip(expected, logits, strict=True)]
        rows["prompt"] += pairs[:1]
        rows["steps"] += pairs[1:]
    table = []
    for name, values in rows.items():
        kl = [value for value, _ in values]
        same = sum(equal for _, equal in values) / len(values)
        table.append((name, len(values), f"{np.mean(kl):.4f}", f"{np.quantile(kl, 0.99):.3f}", f"{same:.3f}"))
    return markdown(("logits after", "tokens", "KL, nats", "99th percentile", "same most likely token"), table)


def _logits(model: Any, ids: list[list[int]], prompt: list[int], text: list[int]) -> Iterator[np.ndarray]:
    context = model.encode_passages(ids)
    context.gain = model.prompted_gain
    sequence = model.sequence(context, len(prompt) + len(text))
    yield model.prefill(sequence, prompt, is_last=True)
    batch = model.batch()
    batch.join(sequence)
    for token in text:
        yield batch.step([token])[0].copy()


def _compare(expected: np.ndarray, logits: np.ndarray) -> tuple[float, bool]:
    p, q = (torch.log_softmax(torch.from_numpy(values).double(), dim=0) for values in (expected, logits))
    return float((p.exp() * (p - q)).sum()), bool(expected.argmax() == logits.argmax())


def speed() -> str:
    """A Markdown table of medians."""
    question, passages = next(questions(1))
    models = {
        "cpu": EncodingOptions(backend="cpu"),
        "torch float32": EncodingOptions(backend="torch", dtype="float32"),
        "torch bfloat16": EncodingOptions(backend="torch", dtype="bfloat16"),
    }
    table = []
    for name, options in models.items():
        model, tokenizer = open_model(options)
        prompt = build_prompt(tokenizer, question, passages[:IN_PROMPT], max_tokens=6000)
        ids = tokenizer.plain_ids([passage_text(passage) for passage in passages[:K]])
        decoder = decoder_of(model)
        cells = [f"{median(_seconds(partial(model.encode_passages, ids)) for _ in range(ROUNDS)):.2f}"]
        for attend_from in (0, prompt.question_start, None):
            seconds = []
            for _ in range(ROUNDS):
                context = None if attend_from is None else model.encode_passages(ids)
                if context is not None and attend_from is not None:
                    context.attend_from = attend_from
                sequence = decoder.sequence(context, len(prompt.ids) + STEPS + 1)
                seconds.append(_seconds(partial(read_prompt, decoder, sequence, prompt.ids)))
            cells += [f"{median(seconds):.2f}", f"{1000 * step_seconds(decoder, sequence):.0f}"]
        table.append((name, *cells))
    kinds = ("all attend", "the question attends", "no passages")
    columns = (
        "backend",
        f"encode {K}, s",
        *(cell for kind in kinds for cell in (f"first token, s: {kind}", "token, ms")),
    )
    head = f"{K} passages of {sum(map(len, ids))} tokens, {len(prompt.ids)} tokens in the prompt."
    return f"{head} Medians of {ROUNDS} first tokens and {STEPS} tokens.\n\n{markdown(columns, table)}"


def read_prompt(decoder: DecoderModel, sequence: Any, prompt: list[int]) -> None:
    for start in range(0, len(prompt), LONG_PIECE):
        decoder.prefill(sequence, prompt[start : start + LONG_PIECE], is_last=start + LONG_PIECE >= len(prompt))


def step_seconds(decoder: DecoderModel, sequence: Any) -> float:
    batch = decoder.batch()
    batch.join(sequence)
    times = []
    for token in range(STEPS):
        start = time.perf_counter()
        batch.step([token + 100])
        times.append(time.perf_counter() - start)
    return median(times)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def questions(count: int) -> Iterator[tuple[str, list[Passage]]]:
    """Questions and more than K passages of each."""
    retriever = open_index(sample.INDEX, method="bm25").retriever
    for row in read_questions(sample.ROOT / "indexes" / "wikipedia-sample-questions.jsonl")[:count]:
        yield row.text, [hit.passage for hit in retriever.search(row.text, K + 1, "bm25")]


def answers(path: Path) -> str:
    """A Markdown table over 200 questions, spread over the file."""
    questions = read_questions(path)
    pool = normalised_passages(questions)
    chosen = questions[:: max(1, len(questions) // QUESTIONS)][:QUESTIONS]
    options = {"cpu": ModelOptions(backend="cpu"), "torch float32": ModelOptions(backend="torch", dtype="float32")}
    right: dict[str, list[bool]] = {}
    for name, each in options.items():
        reader = open_reader(each.model_copy(update={"cache_size": 0.0}))
        right[name] = []
        for question in chosen:
            passages = [*question.gold, *distractors(question, pool, OTHERS)]
            prepared = reader.prepare(question.text, passages, prompt_passages=0, sampling=SAMPLING)
            right[name].append(contains(reader.decode(prepared, SAMPLING), question.answers))
        reader.close()
    table = [
        (name, f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})")
        for name, estimate in ((name, percent(values)) for name, values in right.items())
    ]
    difference = percent([float(a) - float(b) for a, b in zip(*right.values(), strict=True)])
    same = np.mean([a == b for a, b in zip(*right.values(), strict=True)])
    table.append(("difference", f"{difference.value:+.1f} ({difference.low:.1f} to {difference.high:.1f})"))
    return f"{markdown(('backend', 'answer contained, %'), table)}\n\nAs right or wrong as each other: {same:.0%}."


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["answers", path]:
            print(answers(Path(path)))
        case names:
            for name in names or ["accuracy", "speed"]:
                print({"accuracy": accuracy, "speed": speed}[name]())
