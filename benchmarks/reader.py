"""A CEPE reader against the same decoder without it: `python -m benchmarks.reader`, or `make bench-reader`.

SmolLM2-135M with K = 60 passages of 128 tokens, the best 10 of them also in the prompt, and 64 new tokens. The reader
is the one named by --model, or else an untrained one with the default reader's shape and random cross-attention.
Contenders take turns; medians are compared. `--every-layer` adds cross-attention to every decoder layer, as in the
authors' models. `--lengths` measures contexts of 1K to 128K tokens instead, each in its own process, and writes a CSV
file and a plot.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch
from ragx_kernels.cross_attention import AttentionStrategy
from torch import Tensor

from benchmarks import sample
from benchmarks.tables import markdown
from ragx import cepe
from ragx.cepe.context import Context
from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.cepe.store import PassageStore, each_batch
from ragx.models import resolve
from ragx.types import EncodingFormat
from ragx.util.device import default_device, default_dtype
from ragx.util.tokenization import load_tokenizer

K, L, IN_PROMPT, NEW_TOKENS, ROUNDS = 60, 128, 10, 64, 3
DECODER = "smollm2-135m-instruct"
ENCODER_LAYERS = (0, 1, 2, 3, 4, 11, 16)
CROSS_ATTENTION_LAYERS = (17, 18, 20, 21, 22, 23, 24, 26)
LENGTHS = [2**power * 1024 for power in range(8)]
LENGTHS_NEW_TOKENS = 17
FULL_LIMIT = 16 * 1024
"""Maximum number of tokens for `full`, whose time grows with their square."""
STRATEGIES: tuple[AttentionStrategy, ...] = get_args(AttentionStrategy)
Contender = tuple[list[int], Callable[[], Context | None]]
"""The prompt's token ids, and a function that encodes the passages or reads their encodings."""


@dataclass
class Timing:
    """Seconds."""

    first_token: float
    later_token: float
    """Mean over the tokens after the first."""


def run(model: CepeModel) -> str:
    """Markdown tables."""
    ids = passage_ids(model)
    prompt = [token for passage in ids[:IN_PROMPT] for token in passage] + question_ids(model)
    everything = [token for passage in ids for token in passage] + question_ids(model)
    with tempfile.TemporaryDirectory() as folder:
        warm = {kind: store(model, Path(folder) / kind, kind) for kind in get_args(EncodingFormat)}
        for each in warm.values():
            each.fill(ids, each_batch(partial(model.encode_rows, format=each.format)))

        def cold() -> Context:
            model.attention_strategy = "auto"
            with tempfile.TemporaryDirectory() as empty:
                return model.encode_passages(ids, store(model, Path(empty), "bfloat16"))

        def read(kind: EncodingFormat, strategy: AttentionStrategy) -> Callable[[], Context]:
            def encoded() -> Context:
                model.attention_strategy = strategy
                return model.encode_passages(ids, warm[kind])

            return encoded

        contenders: dict[str, Contender] = {
            "full: all passages in the prompt": (everything, lambda: None),
            "prompt alone": (prompt, lambda: None),
            "cepe, cold": (prompt, cold),
            "cepe, cached": (prompt, read("bfloat16", "cached")),
            "cepe, latent": (prompt, read("bfloat16", "latent")),
            "cepe, latent, int8": (prompt, read("int8", "latent")),
            "cepe, project": (prompt, read("bfloat16", "project")),
        }
        if len(model.config.cross_attention_layers) == len(model.model.layers):  # as with fewer layers
            contenders = {name: contenders[name] for name in list(contenders)[1:] if name != "cepe, cold"}
        timings: dict[str, list[Timing]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (tokens, context) in contenders.items():
                timings[name].append(timed(model, tokens, context))
        memory = memory_table(model, {kind: model.encode_passages(ids, warm[kind]) for kind in warm}, everything)
        divergence = kl(model, ids, prompt)
    return "\n\n".join([_timing_table(timings, len(everything), len(prompt)), memory, divergence])


def reader(name: str | None = None, *, every_layer: bool = False) -> CepeModel:
    """The named reader, or an untrained one with the default reader's shape or cross-attention in every layer."""
    if name is not None:
        return cepe.load(name)
    device = default_device()
    return fresh(
        resolve(DECODER, "decoder"),
        Placement(default_dtype(device), device),
        encoder_layers=ENCODER_LAYERS,
        cross_attention_layers=None if every_layer else CROSS_ATTENTION_LAYERS,
        output_gain=0.3,
    )


def passage_ids(model: CepeModel) -> list[list[int]]:
    """K passages of L tokens of Wikipedia."""
    tokenizer = load_tokenizer(Path(str(model.name_or_path)))
    texts = tokenizer.plain_ids([passage.text for passage in sample.passages()[:200]])
    stream = [token for ids in texts for token in ids]
    return [stream[start : start + L] for start in range(0, K * L, L)]


def question_ids(model: CepeModel) -> list[int]:
    """The end of the prompt."""
    tokenizer = load_tokenizer(Path(str(model.name_or_path)))
    return tokenizer.plain_ids([f"Question: {sample.QUESTION} Answer:"])[0]


def store(model: CepeModel, folder: Path, kind: EncodingFormat) -> PassageStore:
    """An open store of this reader's encodings."""
    width = model.config.encoder_config.hidden_size
    return PassageStore(folder, _fingerprint(model), width, format=kind, max_bytes=1 << 30)


def _fingerprint(model: CepeModel) -> str:
    if not hasattr(model, "benchmark_fingerprint"):  # computed once, as for an opened reader
        model.benchmark_fingerprint = model.encoder_fingerprint()  # type: ignore[assignment]
    return str(model.benchmark_fingerprint)


@torch.inference_mode()
def timed(
    model: CepeModel, tokens: list[int], encoded: Callable[[], Context | None], new_tokens: int = NEW_TOKENS
) -> Timing:
    """Time greedy decoding, step by step as in `generate`."""
    start = time.perf_counter()
    context = encoded()
    output = model(torch.tensor([tokens], device=model.device), context=context, use_cache=True, logits_to_keep=1)
    token = output.logits[:, -1:].argmax(-1)
    token.item()
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(new_tokens - 1):
        output = model(token, context=context, past_key_values=output.past_key_values, use_cache=True)
        token = output.logits[:, -1:].argmax(-1)
        token.item()
    return Timing(first, (time.perf_counter() - start) / (new_tokens - 1))


def _timing_table(timings: dict[str, list[Timing]], everything: int, prompt: int) -> str:
    first = {name: median(timing.first_token for timing in runs) for name, runs in timings.items()}
    step = {name: median(timing.later_token for timing in runs) * 1e3 for name, runs in timings.items()}
    baseline, alone = next(iter(timings)), "prompt alone"
    rows = [
        (
            name,
            *(f"{first[name]:.2f}", f"{first[baseline] / first[name]:.1f}", f"{first[name] / first[alone]:.2f}"),
            *(f"{step[name]:.1f}", f"{step[baseline] / step[name]:.1f}", f"{step[name] / step[alone]:.2f}"),
            f"{step['cepe, project'] / step[name]:.1f}",
        )
        for name in timings
    ]
    head = f"Prompts of {everything:,} (full) and {prompt:,} tokens, {ROUNDS} alternating rounds."
    ratios = ("first row / this", "this / alone")
    columns = ("", "first token, s", *ratios, "ms per token", *ratios, "project / this")
    return f"{head}\n\n{markdown(columns, rows)}"


@torch.inference_mode()
def memory_table(model: CepeModel, contexts: dict[EncodingFormat, Context], everything: list[int]) -> str:
    """Bytes per token of context, from the sizes of the tensors."""
    cache: Any = model(torch.tensor([everything[:512]], device=model.device), use_cache=True).past_key_values
    full = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) / 512
    rows = [("full: the decoder's key/value cache", f"{full:,.0f}", "1")]
    for kind, context in contexts.items():
        size = context.phi.nbytes + (0 if context.phi_scale is None else context.phi_scale.nbytes)
        rows.append((f"latent, {kind} Φ", f"{size / context.tokens:,.0f}", f"1/{full * context.tokens / size:.1f}"))
    attention = model.model.layers[CROSS_ATTENTION_LAYERS[0]].cross_attn
    per_layer = 2 * attention.k_proj.weight.shape[0] * attention.k_proj.weight.itemsize
    cached = per_layer * len(model.config.cross_attention_layers) + contexts["bfloat16"].phi.nbytes // (K * L)
    rows.append(("cached, bfloat16 Φ and keys and values", f"{cached:,}", f"1/{full / cached:.1f}"))
    return markdown(("in memory", "bytes per context token", "of full"), rows)


@torch.inference_mode()
def kl(model: CepeModel, ids: list[list[int]], prompt: list[int]) -> str:
    """How much int8 Φ changes the next-token distribution, in nats, over the tokens of a text prompt."""
    with tempfile.TemporaryDirectory() as folder:
        logits: dict[EncodingFormat, Tensor] = {}
        for kind in get_args(EncodingFormat):
            context = model.encode_passages(ids[IN_PROMPT:], store(model, Path(folder) / kind, kind))
            logits[kind] = model(torch.tensor([prompt], device=model.device), context=context).logits[0].float()
    exact, rounded = (logits[kind].log_softmax(-1) for kind in get_args(EncodingFormat))
    nats = (exact.exp() * (exact - rounded)).sum(-1)  # (N)
    return (
        f"KL of int8 from bfloat16 Φ: mean {nats.mean():.5f} nats over {len(nats):,} tokens, maximum {nats.max():.4f}."
    )


def measure_length(strategy: str, tokens: int) -> dict[str, Any]:
    """Measure one strategy at one context length; run in a child process, because peak memory is the process's."""
    model = reader()
    ids = passage_ids(model)
    prompt = [token for passage in ids[:IN_PROMPT] for token in passage] + question_ids(model)
    if strategy == "full":
        end = question_ids(model)
        stream = ([token for passage in ids for token in passage] * (tokens // (K * L) + 1))[: tokens - len(end)]
        timing = timed(model, stream + end, lambda: None, LENGTHS_NEW_TOKENS)
    else:
        with torch.inference_mode():
            some = model.encode_passages(ids).phi  # (1, K·L, E)
        phi = some.repeat(1, tokens // some.shape[1] + 1, 1)[:, :tokens].clone()  # (1, M, E)
        attend: Any = strategy
        timing = timed(
            model,
            prompt,
            lambda: Context(phi, offsets=[list(range(0, tokens + 1, L))], strategy=attend),
            LENGTHS_NEW_TOKENS,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "strategy": strategy,
        "M": tokens,
        "first_token_s": round(timing.first_token, 2),
        "ms_per_token": round(timing.later_token * 1e3, 1),
        "peak_rss_MiB": round(peak),
    }


def measure_lengths(table: Path, plot: Path) -> str:
    """Measure each strategy at each length in its own process; write a CSV file and a plot, return a Markdown table."""
    rows: list[dict[str, Any]] = []
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["strategy", "M", "first_token_s", "ms_per_token", "peak_rss_MiB"], lineterminator="\n"
        )
        writer.writeheader()
        for tokens in LENGTHS:
            for strategy in ("full", *STRATEGIES):
                if strategy == "full" and tokens > FULL_LIMIT:
                    continue
                command = [sys.executable, "-m", "benchmarks.reader", "--strategy", strategy, "--tokens", str(tokens)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                writer.writerow(rows[-1])
                file.flush()
    _plot(rows, plot)
    return markdown(list(rows[0]), [list(row.values()) for row in rows])


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4))
    panels = {"first_token_s": "first token, s", "ms_per_token": "ms per token", "peak_rss_MiB": "peak memory, MiB"}
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for strategy in ("full", *STRATEGIES):
            points = [(row["M"], row[column]) for row in rows if row["strategy"] == strategy]
            axis.plot(*zip(*points, strict=True), marker="o", label=strategy)
        axis.set(xscale="log", yscale="log", xlabel="context tokens", title=label)
        axis.set_xticks([1024, 8192, 65536], ["1K", "8K", "64K"])
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__)
    parser.add_argument("--model", help="a reader; default: an untrained one with the default reader's shape")
    parser.add_argument("--every-layer", action="store_true", help="cross-attention in every layer")
    parser.add_argument("--lengths", action="store_true", help="contexts of 1K to 128K tokens")
    parser.add_argument("--strategy", help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.strategy:
        print(json.dumps(measure_length(options.strategy, options.tokens)))
    elif options.lengths:
        docs = Path(__file__).parents[1] / "docs"
        print(measure_lengths(docs / "reader-lengths.csv", docs / "reader-lengths.png"))
    else:
        print(run(reader(options.model, every_layer=options.every_layer)))


if __name__ == "__main__":
    main()
