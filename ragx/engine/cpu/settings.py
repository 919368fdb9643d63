"""settings.json of a compiled reader: what its graphs do not say."""

from __future__ import annotations

from pathlib import Path

from ragx.types import CrossAttend
from ragx.util.settings import Settings

SETTINGS = "settings.json"
EMBEDDINGS, ENCODER_EMBEDDINGS = "embeddings.npy", "encoder_embeddings.npy"
"""One row per token. Without its own table, the encoder uses the decoder's."""


class CompiledSettings(Settings):
    """Sizes and settings of a compiled reader."""

    window: int
    """Maximum number of tokens of prompt and answer."""
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    cross_layers: tuple[int, ...]
    """Layers that attend to passages; none in an untrained reader."""
    end_tokens: tuple[int, ...]
    """The decoder's own tokens that end an answer."""
    encoder_window: int
    encoder_fingerprint: str
    prompted_gain: float
    cross_attend: CrossAttend
    """Which tokens of a prompt attend to the passages."""


def read_settings(folder: Path) -> CompiledSettings:
    """The settings of the compiled reader in `folder`."""
    return CompiledSettings.model_validate_json((folder / SETTINGS).read_bytes())
