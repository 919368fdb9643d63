"""Tiny extensible embedders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ragx import cepe
from ragx.cepe.model import CepeModel
from ragx.extensible.embedder import EmbedderSettings, ExtensibleEmbedder
from ragx.extensible.saving import save_embedder


def with_embedder(decoder: Path, **settings: Any) -> CepeModel:
    """A decoder in float32 with a fresh embedder of chunks of 8 tokens."""
    given = {"layers": 1, "chunk": 8, "ratios": (2, 4), **settings}
    model = cepe.load(str(decoder), dtype="float32", device="cpu", plain=True).requires_grad_(False)
    model.extensible = ExtensibleEmbedder(EmbedderSettings(**given), model.config)
    model.extensible.start_from(model, list(range(10, 40)))
    return model


def save_tiny_embedder(folder: Path, decoder: Path, **settings: Any) -> Path:
    """An embedder whose weights are not those of its decoder."""
    model = with_embedder(decoder, **settings)
    assert model.extensible is not None
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.extensible.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    save_embedder(model, folder, decoder=str(decoder))
    return folder
