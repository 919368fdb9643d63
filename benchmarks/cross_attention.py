"""Milliseconds of one layer's cross-attention by each strategy: `python -m benchmarks.cross_attention [FILE.csv]`.

Shapes of Llama-2-7B, Llama-3-8B and SmolLM2-135M on a GPU, of SmolLM2-135M alone on a CPU. Layers with different keys
and values take turns, so that none finds its own in a hardware cache; all share Φ. `sdpa` is PyTorch's
scaled_dot_product_attention(enable_gqa=True) on stored keys and values.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from ragx_kernels.cross_attention import cross_attention, latent, project_keys_values, quantize
from torch import Tensor

from benchmarks.tables import markdown

COLUMNS = ("device", "model", "dtype", "phi", "M", "N", "strategy", "median_ms", "best_tenth_ms")
LAYERS_BYTES = 2**28
"""Keys and values of all layers together, well beyond the size of a cache."""


@dataclass(frozen=True)
class Model:
    """Shapes of a decoder and the encoder beside it."""

    name: str
    heads: int
    kv_heads: int
    head_dim: int
    encoder_width: int


SMOLLM2 = Model("SmolLM2-135M", heads=9, kv_heads=3, head_dim=64, encoder_width=576)
LLAMA2 = Model("Llama-2-7B", heads=32, kv_heads=32, head_dim=128, encoder_width=1024)
LLAMA3 = Model("Llama-3-8B", heads=32, kv_heads=8, head_dim=128, encoder_width=1024)


def measure(seconds: float = 1.0) -> Iterator[dict[str, Any]]:
    """One row per strategy, each measured for this long."""
    torch.manual_seed(0)
    with torch.inference_mode():
        if torch.cuda.is_available():
            for model in (LLAMA2, LLAMA3, SMOLLM2):
                for tokens in (2**power for power in range(11, 18)):
                    yield from _strategies(model, torch.bfloat16, tokens, 1, "cuda", seconds)
        else:
            for dtype in (torch.bfloat16, torch.float32):
                for tokens in (2048, 8040, 32768, 131072):
                    yield from _strategies(SMOLLM2, dtype, tokens, 1, "cpu", seconds)
                for tokens in (2048, 8040):
                    yield from _strategies(SMOLLM2, dtype, tokens, 1500, "cpu", seconds)


def run() -> str:
    """A Markdown table."""
    return markdown(COLUMNS, [[row[column] for column in COLUMNS] for row in measure()])


def main() -> None:
    with Path(sys.argv[1] if len(sys.argv) > 1 else "/dev/stdout").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in measure():
            writer.writerow(row)
            file.flush()


def _strategies(
    model: Model, dtype: torch.dtype, tokens: int, queries: int, device: str, seconds: float
) -> Iterator[dict[str, Any]]:
    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    width, keys_width = model.encoder_width, model.kv_heads * model.head_dim
    query, phi = random(1, model.heads, queries, model.head_dim), random(1, tokens, width)
    phi8, phi_scale = quantize(phi)
    weights = (random(keys_width, width) / width**0.5, random(keys_width, width) / width**0.5)
    layers = max(1, min(30, LAYERS_BYTES // (2 * tokens * keys_width * dtype.itemsize)))
    keys_values = [project_keys_values(phi, *weights, head_dim=model.head_dim) for _ in range(layers)]
    plain = [(key.contiguous(), value.contiguous()) for key, value in keys_values]

    def sdpa(layer: int) -> Tensor:
        return F.scaled_dot_product_attention(query, *plain[layer], enable_gqa=True)

    def cached(layer: int) -> Tensor:
        return cross_attention(query, phi, *weights, strategy="cached", keys_values=keys_values[layer])[0]

    def project(_: int) -> Tensor:
        return cross_attention(query, phi, *weights, strategy="project")[0]

    def attend_to_phi(_: int) -> Tensor:
        return cross_attention(query, phi, *weights, strategy="latent")[0]

    def attend_to_int8(_: int) -> Tensor:
        return cross_attention(query, phi8, *weights, strategy="latent", phi_scale=phi_scale)[0]

    strategies: dict[tuple[str, str], Callable[[int], Tensor]] = {
        ("sdpa", str(dtype)[6:]): sdpa,
        ("cached", str(dtype)[6:]): cached,
        ("project", str(dtype)[6:]): project,
    }
    if queries == 1:
        strategies |= {("latent", str(dtype)[6:]): attend_to_phi, ("latent", "int8"): attend_to_int8}
        if device == "cuda":
            strategies = {
                (f"{strategy} triton" if strategy == "latent" else strategy, kind): run
                for (strategy, kind), run in strategies.items()
            }
            strategies |= {
                ("latent torch", str(dtype)[6:]): _without_triton(attend_to_phi),
                ("latent torch", "int8"): _without_triton(attend_to_int8),
            }
    for (strategy, kind), call in strategies.items():
        times = _milliseconds(call, layers, device, seconds)
        name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        best = quantiles(times, n=10)[0]
        values = (
            name,
            model.name,
            str(dtype)[6:],
            kind,
            tokens,
            queries,
            strategy,
            f"{median(times):.3f}",
            f"{best:.3f}",
        )
        yield dict(zip(COLUMNS, values, strict=True))


def _without_triton(call: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
    def run(layer: int) -> Tensor:
        with patch.object(latent, "_has_triton", return_value=False):
            return call(layer)

    return run


def _milliseconds(call: Callable[[int], Tensor], layers: int, device: str, seconds: float) -> list[float]:
    """Times of single calls for `seconds`, at least five; the layers take turns."""
    times: list[float] = []
    call(0)
    until = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call(len(times) % layers)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    main()
