"""Rotary positions stretched over a longer window: YaRN (2309.00071) or position interpolation (2306.15595)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragx.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel

ROPE_TYPES = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles depend on nothing but the position."""


def stretch(model: CepeModel, scaling: str) -> None:
    """Give the decoder a window `FACTOR` times as long, where `scaling` is `yarn:FACTOR` or `linear:FACTOR`.

    Raises:
        ConfigError: the decoder's positions are already stretched.
    """
    kind, factor = scaling.split(":")
    config = model.config
    if (own := config.rope_parameters.get("rope_type", "default")) != "default":
        raise ConfigError(f"rope_scaling cannot be {scaling}: the decoder's own positions are {own}")
    window = config.max_position_embeddings
    config.rope_parameters = {
        "rope_theta": config.rope_parameters["rope_theta"],
        "rope_type": kind,
        "factor": float(factor),
        **({"original_max_position_embeddings": window} if kind == "yarn" else {}),
    }
    config.max_position_embeddings = int(window * float(factor))
    rotary = model.model.rotary_emb
    new = type(rotary)(config=config).to(rotary.inv_freq.device)
    rotary.inv_freq, rotary.original_inv_freq = new.inv_freq, new.original_inv_freq
    rotary.attention_scaling, rotary.rope_type = new.attention_scaling, new.rope_type
    rotary.max_seq_len_cached, rotary.original_max_seq_len = new.max_seq_len_cached, new.original_max_seq_len


def check_rope(values: dict[str, Any]) -> None:
    """Refuse YaRN settings without the window before stretching: transformers would take the long one, which is wrong.

    Raises:
        ModelError: it is missing.
    """
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) == "yarn" and "original_max_position_embeddings" not in rope:
        raise ModelError("config.json: YaRN needs original_max_position_embeddings, the window before stretching")
