"""Passages per second: building an index against a bare sentence-transformers loop over the same passages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from benchmarks import sample
from benchmarks.tables import markdown
from ragx.config import IndexSettings
from ragx.index import build_index
from ragx.models import resolve
from ragx.retrieval import TextEmbedder, open_embedder
from ragx.retrieval.sentence_transformer import SentenceTransformerEmbedder, load_sentence_transformer
from ragx.types import Passage
from ragx.util.device import default_device, default_dtype

MODEL = "all-minilm-l6-v2"
ROUNDS = 4
PASSAGES = 200
"""Per round. All contenders take turns on each round's passages, so that noise of the machine affects all alike."""


def run() -> str:
    """A Markdown table."""
    folder = resolve(MODEL)
    device = default_device()
    dtype = default_dtype(device)
    plain = SentenceTransformer(str(folder), device=device)
    fast = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype})
    by_torch = SentenceTransformerEmbedder(load_sentence_transformer(folder, MODEL, device, dtype), MODEL, "")
    contenders: dict[str, Callable[[list[Passage]], None]] = {
        "plain encode loop, float32 (its default)": lambda passages: _encode_loop(plain, passages),
        f"plain encode loop, {_name(dtype)}": lambda passages: _encode_loop(fast, passages),
        f"ragx build_index, torch, {_name(dtype)}": partial(_build, by_torch),
    }
    if device == "cpu":
        contenders["ragx build_index, ONNX Runtime, float32"] = partial(_build, open_embedder(MODEL, device))
    wall, cpu = dict.fromkeys(contenders, 0.0), dict.fromkeys(contenders, 0.0)
    corpus = sample.passages()
    for work in contenders.values():
        work(corpus[-32:])  # warm up
    for number in range(ROUNDS):
        passages = corpus[number * PASSAGES : (number + 1) * PASSAGES]
        for name, work in contenders.items():
            start, started = time.perf_counter(), time.process_time()
            work(passages)
            wall[name] += time.perf_counter() - start
            cpu[name] += time.process_time() - started
    ours, total = list(wall.values())[-1], ROUNDS * PASSAGES
    rows = [
        (name, f"{total / wall[name]:.1f}", f"{total / cpu[name]:.1f}", f"{wall[name] / ours:.2f}")
        for name in contenders
    ]
    head = f"{ROUNDS} alternating rounds of {PASSAGES} passages of 100 words."
    return f"{head}\n\n{markdown(('what', 'passages/s', 'passages/CPU s', 'ragx / this'), rows)}"


def _build(embedder: TextEmbedder, passages: list[Passage]) -> None:
    with tempfile.TemporaryDirectory() as out:
        build_index(passages, Path(out), embedder, IndexSettings(), quiet=True)


def _encode_loop(model: SentenceTransformer, passages: list[Passage]) -> None:
    texts = [f"{passage.title} {passage.text}" for passage in passages]
    for start in range(0, len(texts), 32):
        model.encode(texts[start : start + 32], batch_size=32, show_progress_bar=False)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
