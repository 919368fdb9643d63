"""Speed of the kernels and of reading: `python -m benchmarks.gpu.bench WORK OUT SECONDS`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import get_args

import torch
from ragx_kernels.cross_attention import AttentionStrategy
from ragx_train.engine.model import READER

from benchmarks import cross_attention
from benchmarks.gpu.readers import fresh_reader, packed_settings
from benchmarks.reader import L, timed
from benchmarks.tables import markdown
from ragx import cepe
from ragx.cepe.context import Context
from ragx.cepe.model import CepeModel
from ragx.util.device import default_device

LENGTHS = {"cuda": [2**power for power in range(11, 18)], "cpu": [256, 512]}
PROMPT, NEW_TOKENS, PASSAGES = 1024, 33, 60
KERNEL_SECONDS = 0.1


def main(work: Path, seconds: float) -> None:
    end, device = time.monotonic() + seconds, default_device()
    readers = sorted(work.glob(f"*/{READER}/config.json"))
    if readers:
        model = cepe.load(str(readers[-1].parent), device=device)
    else:
        model = fresh_reader(packed_settings(work), torch.bfloat16)
    prompt = torch.randint(50, model.config.vocab_size // 2, (min(PROMPT, model.window // 2),)).tolist()
    print(f"{first_token(model, prompt)}\n", flush=True)
    head = ("context tokens", "strategy", "first token, ms", "ms per token")
    print(f"Decoding after a prompt of {len(prompt):,} tokens.\n\n{markdown(head, [])}", flush=True)
    for tokens in LENGTHS[device]:
        phi = torch.randn(1, tokens, model.encoder_width, device=device, dtype=model.dtype)
        for strategy in ("full", *get_args(AttentionStrategy)):
            if time.monotonic() > end or (strategy == "full" and tokens + NEW_TOKENS > model.window):
                continue
            print(decoding(model, prompt, phi, strategy), flush=True)
    if device == "cuda":
        print(f"\n{markdown(cross_attention.COLUMNS, [])}")
        for row in cross_attention.measure(KERNEL_SECONDS):
            print(f"| {' | '.join(str(row[column]) for column in cross_attention.COLUMNS)} |", flush=True)
            if time.monotonic() > end:
                break


def first_token(model: CepeModel, prompt: list[int]) -> str:
    """From a question and passages that no one has encoded to the first token."""
    passages = torch.randint(50, model.config.vocab_size // 2, (PASSAGES, min(L, model.encoder_window))).tolist()
    cold = [timed(model, prompt, lambda: model.encode_passages(passages), 2).first_token for _ in range(4)]
    alone = [timed(model, prompt, lambda: None, 2).first_token for _ in range(4)]
    rows = [
        (f"{PASSAGES} passages encoded first", f"{min(cold) * 1e3:.1f}"),
        ("prompt alone", f"{min(alone) * 1e3:.1f}"),
    ]
    return markdown((f"prompt of {len(prompt):,} tokens", "first token, ms"), rows)


def decoding(model: CepeModel, prompt: list[int], phi: torch.Tensor, strategy: str) -> str:
    """A row: the best of two runs; `full` has the context in its prompt instead."""
    tokens = phi.shape[1]
    offsets = [list(range(0, tokens + 1, L))]
    runs = [
        timed(model, (prompt * (1 + tokens // len(prompt)))[:tokens], lambda: None, NEW_TOKENS)
        if strategy == "full"
        else timed(model, prompt, lambda: Context(phi, offsets=offsets, strategy=strategy), NEW_TOKENS)  # type: ignore[arg-type]
        for _ in range(2)
    ]
    first, later = (
        min(times) * 1e3 for times in zip(*((run.first_token, run.later_token) for run in runs), strict=True)
    )
    return f"| {tokens:,} | {strategy} | {first:.1f} | {later:.2f} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[3]))
