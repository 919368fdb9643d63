"""Speed of a training step around SmolLM2-135M-Instruct on one CPU core: `python -m benchmarks.training_step`.

Seconds are the core's own, so other work on the machine hardly matters. The share is that of the rate of a bf16 matrix
product, measured between the steps, which the step's own matrix products reach.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from ragx_train.data.example import Batch, collate
from ragx_train.data.streams import continuation
from ragx_train.engine.losses import next_token_loss
from ragx_train.engine.model import reader_to_train, trained
from ragx_train.engine.step import Objective
from ragx_train.recipes.warmup import WarmupSettings

from benchmarks.tables import markdown
from ragx.cepe.model import CepeModel
from ragx.util.device import keep_freed_memory
from ragx.util.settings import load_settings

SIZES = [(2048, 256, 256), (512, 64, 512), (4096, 256, 512)]
"""Encoder tokens, those of a chunk, and decoder tokens."""
REPEATS = 4
CONFIG = Path(__file__).parents[1] / "train" / "configs" / "warmup" / "smollm2-135m.yaml"


def run() -> str:
    """A Markdown table."""
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = load_settings(WarmupSettings, CONFIG)
    model, _ = reader_to_train(settings.model, settings.loop)
    objective = Objective(model, next_token_loss, "bf16")
    rows = []
    for encoder, chunk, decoder in SIZES:
        ids = torch.randint(100, 40_000, (encoder + decoder,)).tolist()
        batch = collate([continuation((ids, "random"), chunk, encoder)])
        seconds, rates = [], []
        for _ in range(REPEATS):
            seconds.append(_step(objective, batch))
            rates.append(_matrix_rate())
        best, rate = min(seconds), median(rates)
        share = operations(model, encoder, chunk, decoder) / best / rate
        tokens = f"{(encoder + decoder) / best:,.0f}"
        rows.append((f"{encoder:,} in chunks of {chunk}, {decoder}", tokens, f"{share:.0%}", f"{rate / 1e9:.0f}"))
    return markdown(("encoder, decoder tokens", "tokens a second", "share", "matrix rate (GFLOP/s)"), rows)


def _step(objective: Objective, batch: Batch) -> float:
    began = time.process_time()
    objective(batch)["loss"].backward()
    objective.zero_grad()
    return time.process_time() - began


def _matrix_rate() -> float:
    """Operations a second of a product of the encoder's size."""
    rows, weight = torch.randn(1024, 576).bfloat16(), torch.randn(1536, 576).bfloat16()
    began = time.process_time()
    for _ in range(20):
        F.linear(rows, weight)
    return 20 * 2 * 1024 * 576 * 1536 / (time.process_time() - began)


def operations(model: CepeModel, encoder: int, chunk: int, decoder: int) -> float:
    """Multiplications and additions of a step: products with weights, and attention."""
    config = model.config
    width, first = config.hidden_size, min(config.cross_attention_layers)
    layer = sum(weight.numel() for weight in model.model.layers[0].parameters())
    upper = config.num_hidden_layers - first
    head = model.lm_head.weight.numel()
    added = sum(weight.numel() for weight in trained(model).values())
    of_encoder = sum(weight.numel() for weight in model.encoder.layers.parameters())
    keys_values = len(config.cross_attention_layers) * 2 * config.num_key_value_heads * config.head_dim * width
    of_decoder = 2 * (config.num_hidden_layers * layer + head) + 2 * (upper * layer + head)
    products = decoder * (of_decoder + 6 * (added - of_encoder - keys_values)) + 6 * encoder * (
        of_encoder + keys_values
    )
    cross = 3 * 4 * len(config.cross_attention_layers) * encoder * decoder * width
    own = 4 * (config.num_hidden_layers + 2 * upper) * decoder * decoder * width
    own += 3 * 4 * config.encoder_config.num_hidden_layers * encoder * chunk * width
    return float(products + cross + own)


if __name__ == "__main__":
    print(run())
