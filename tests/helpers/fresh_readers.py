"""Tiny readers as `fresh` makes them, and tokens for them to read."""

from __future__ import annotations

from pathlib import Path

import torch

from ragx.cepe.fresh import fresh
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from tests.helpers.tiny import VOCABULARY

FAMILIES = {"llama": {}, "mistral": {"sliding_window": None}, "qwen2": {}, "qwen3": {}}


def load(folder: Path) -> CepeModel:
    return fresh(folder, Placement(torch.float32, "cpu"), encoder_layers=(0, 1))


def train(model: CepeModel) -> None:
    """Set nonzero output projections, as training would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.cross_attn.o_proj.weight.normal_(std=0.3)


def tokens(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))
