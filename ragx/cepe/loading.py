"""Load readers in the authors' layout, and helpers for loading in any layout."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig, PreTrainedConfig

from ragx.cepe import weights
from ragx.cepe.model import CepeModel, cepe_class
from ragx.cepe.placement import Placement
from ragx.cepe.rope import check_rope
from ragx.errors import ModelError
from ragx.models import read_config
from ragx.util.terminal import quiet_transformers
from ragx.util.text import first_line

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types with pre-norm layers: norm, self-attention, norm, feed-forward, each half with a residual."""


def load_checkpoint(folder: Path, placement: Placement) -> CepeModel:
    """Load a checkpoint in the authors' layout: the decoder's config plus `encoder_config` and `num_cross_attn_layers`.

    ragx's own checkpoints may list `cross_attention_layers` and set `shared_embeddings`; see `CepeModel`.

    Raises:
        ModelError: a weight is missing or unexpected, or the model does not fit into memory.
    """
    values = read_config(folder)
    encoder_values = values.pop("encoder_config")
    layers = values["num_hidden_layers"]
    count = values.pop("num_cross_attn_layers", layers)
    chosen = values.pop("cross_attention_layers", None) or list(range(layers - count, layers))
    shared = bool(values.pop("shared_embeddings", False))
    config = decoder_config(values)
    config = with_encoder(config, decoder_config(encoder_values), chosen, shared_embeddings=shared)
    model, missing = from_pretrained(folder, config, placement, weights.shapes(folder))
    refuse_missing(missing)
    return model


def decoder_config(values: dict[str, Any]) -> PreTrainedConfig:
    """The transformers configuration of a decoder.

    Raises:
        ModelError: the model is not of the Llama family, or a setting is invalid.
    """
    if not isinstance(values, dict):
        raise ModelError(f"config.json is damaged: {values!r} is not a model configuration")
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise ModelError(f"model type {kind!r} is not supported; use one of {', '.join(sorted(FAMILIES))}")
    try:
        check_rope(values)
        return AutoConfig.for_model(**{key: value for key, value in values.items() if key != "auto_map"})
    except ModelError:
        raise
    except Exception as error:  # transformers raises many classes for invalid settings
        raise ModelError(f"config.json is damaged: {type(error).__name__}: {first_line(error)}") from None


def with_encoder(
    config: PreTrainedConfig, encoder_config: PreTrainedConfig, layers: list[int], *, shared_embeddings: bool
) -> PreTrainedConfig:
    """Add `CepeModel`'s settings to the decoder's."""
    config.encoder_config = encoder_config
    config.cross_attention_layers = layers
    config.shared_embeddings = shared_embeddings
    config.shared_encoder_layers = 0
    return config


def from_pretrained(
    folder: Path, config: PreTrainedConfig, placement: Placement, shapes: weights.Shapes
) -> tuple[CepeModel, set[str]]:
    """The model in eval mode with the weights in `folder`, and the keys of missing weights.

    Args:
        folder: a decoder, or a reader with its decoder.
        config: the reader's configuration.
        placement: where the weights go.
        shapes: shapes of all the reader's weights, including those not in `folder`.

    Raises:
        ModelError: weights are unexpected or of a wrong shape, or do not fit into memory.
    """
    _check_sizes(shapes, config)
    placement.check_memory(shapes)
    placement.check_heads(config.num_key_value_heads)
    config.encoder_config.dtype = placement.dtype
    decoder_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded: Any = cepe_class(decoder_class).from_pretrained(
                folder,
                config=config,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below
                **placement.arguments(),
            )
        except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
            raise ModelError(f"config.json is damaged: {type(error).__name__}: {first_line(error)}") from None
    model: CepeModel = loaded[0]
    info: dict[str, set[str]] = loaded[1]
    problems = sorted(info["unexpected_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if problems:
        raise ModelError(f"weights do not fit the model: {', '.join(problems)}")
    model.eval()  # type: ignore[no-untyped-call]
    # keep only the special tokens: the caller, not the decoder's folder, chooses sampling, beams and penalties
    defaults = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=defaults.bos_token_id, eos_token_id=defaults.eos_token_id, pad_token_id=defaults.pad_token_id
    )
    return model, set(info["missing_keys"])


def refuse_missing(keys: set[str]) -> None:
    """Raise a `ModelError` that lists the missing `keys`, if any."""
    if keys:
        raise ModelError(f"weights are missing: {', '.join(sorted(keys))}")


def _check_sizes(shapes: weights.Shapes, config: PreTrainedConfig) -> None:
    """Compare the settings with the weights before building a model of a wrong, possibly huge, size."""
    layers = {int(key.split(".")[2]) for key in shapes if key.startswith("model.layers.")}
    sizes = {
        "layers": (config.num_hidden_layers, max(layers, default=-1) + 1),
        "vocabulary and width": ([config.vocab_size, config.hidden_size], shapes.get("model.embed_tokens.weight")),
    }
    for name, (configured, stored) in sizes.items():
        if configured != stored:
            raise ModelError(f"config.json and the weights disagree on {name}: {configured} and {stored}")
