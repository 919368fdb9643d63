"""Extensible Embedding: a trained embedder before a frozen decoder, one embedding for every k tokens (2402.11577)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ragx.cepe.model import CepeModel

__all__ = ["is_extensible", "load"]


def is_extensible(folder: Path) -> bool:
    """Whether the model in `folder` is an embedder saved without its decoder.

    Raises:
        ModelError: its settings cannot be read.
    """
    from ragx.models import read_config

    return "extensible" in read_config(folder)


def load(
    name_or_folder: str,
    *,
    dtype: str | None = None,
    device: str | None = None,
    bits: int | None = None,
    rope_scaling: str | None = None,
    decoder: str | None = None,
) -> CepeModel:
    """Load an embedder and its decoder, whose own logits do not change; arguments as `ragx.cepe.load`.

    Raises:
        ModelError: a model is missing, damaged or too large for the memory, or the derivative does not fit.
        ConfigError: as `ragx.cepe.load`.
    """
    from ragx import cepe
    from ragx.extensible.saving import find_decoder_of, load_embedder
    from ragx.models import resolve

    folder = resolve(name_or_folder)
    chosen, plugged_in = find_decoder_of(folder, decoder)
    model = cepe.load(str(chosen), dtype=dtype, device=device, bits=bits, plain=True, rope_scaling=rope_scaling)
    model.extensible = load_embedder(folder, chosen, model)
    model.plugged_in = plugged_in
    return model
