"""Passages a second: building an index against a bare sentence-transformers loop over the same passages."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from benchmarks import sample
from ragx.config import IndexSettings
from ragx.hardware import default_device, default_dtype
from ragx.models import fingerprint, resolve
from ragx.retrieval import TextEncoder, build_index

MODEL = "all-minilm-l6-v2"
PASSAGES = 2000


def run() -> str:
    """A Markdown table."""
    passages = sample.passages()[:PASSAGES]
    texts = [f"{passage.title} {passage.text}" for passage in passages]
    folder = resolve(MODEL, "encoder")
    device = default_device()
    dtype = default_dtype(device)

    bare = SentenceTransformer(str(folder), device=device)
    rates = {"bare encode loop, float32 (its default)": _rate(len(texts), lambda: _encode_loop(bare, texts))}
    bare.to(dtype)
    rates[f"bare encode loop, {_name(dtype)}"] = _rate(len(texts), lambda: _encode_loop(bare, texts))
    encoder = TextEncoder.load(folder, name=MODEL, fingerprint=fingerprint(folder), device=device, dtype=dtype)
    with tempfile.TemporaryDirectory() as out:
        rates[f"ragx build_index, {_name(dtype)}"] = _rate(
            len(texts), lambda: build_index(passages, Path(out), encoder, IndexSettings(), quiet=True)
        )
    best = list(rates.values())[-1]
    rows = [f"| {name} | {rate:.1f} | {best / rate:.2f} |" for name, rate in rates.items()]
    return "\n".join(
        [f"{len(texts)} passages of 100 words.\n", "| what | passages/s | ragx / this |", "|---|---|---|", *rows]
    )


def _encode_loop(model: SentenceTransformer, texts: list[str]) -> None:
    for start in range(0, len(texts), 32):
        model.encode(texts[start : start + 32], batch_size=32, show_progress_bar=False)


def _rate(count: int, work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return count / (time.perf_counter() - start)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
