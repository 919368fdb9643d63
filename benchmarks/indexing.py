"""Passages a second: building an index against a bare sentence-transformers loop over the same passages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from benchmarks import sample
from ragx.config import IndexSettings
from ragx.index import build_index
from ragx.models import fingerprint, resolve
from ragx.retrieval import TextEmbedder
from ragx.types import Passage
from ragx.util.device import default_device, default_dtype

MODEL = "all-minilm-l6-v2"
ROUNDS = 4
PASSAGES = 400
"""In a round. Every contender takes its turn on each round's passages, so that a noisy machine is noisy to all."""


def run() -> str:
    """A Markdown table."""
    folder = resolve(MODEL, "embedder")
    device = default_device()
    dtype = default_dtype(device)
    plain = SentenceTransformer(str(folder), device=device)
    fast = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype})
    embedder = TextEmbedder.load(folder, name=MODEL, fingerprint=fingerprint(folder), device=device, dtype=dtype)

    def build(passages: list[Passage]) -> None:
        with tempfile.TemporaryDirectory() as out:
            build_index(passages, Path(out), embedder, IndexSettings(), quiet=True)

    contenders: dict[str, Callable[[list[Passage]], None]] = {
        "bare encode loop, float32 (its default)": lambda passages: _encode_loop(plain, passages),
        f"bare encode loop, {_name(dtype)}": lambda passages: _encode_loop(fast, passages),
        f"ragx build_index, {_name(dtype)}": build,
    }
    seconds = dict.fromkeys(contenders, 0.0)
    corpus = sample.passages()
    for work in contenders.values():
        work(corpus[-32:])  # warm up
    for number in range(ROUNDS):
        passages = corpus[number * PASSAGES : (number + 1) * PASSAGES]
        for name, work in contenders.items():
            start = time.perf_counter()
            work(passages)
            seconds[name] += time.perf_counter() - start
    ours = list(seconds.values())[-1]
    rows = [f"| {name} | {ROUNDS * PASSAGES / spent:.1f} | {spent / ours:.2f} |" for name, spent in seconds.items()]
    head = f"{ROUNDS} rounds of {PASSAGES} passages of 100 words, in turn.\n"
    return "\n".join([head, "| what | passages/s | ragx / this |", "|---|---|---|", *rows])


def _encode_loop(model: SentenceTransformer, passages: list[Passage]) -> None:
    texts = [f"{passage.title} {passage.text}" for passage in passages]
    for start in range(0, len(texts), 32):
        model.encode(texts[start : start + 32], batch_size=32, show_progress_bar=False)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
