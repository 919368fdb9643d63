"""Load CEPE readers in the authors' layout, and what every way of loading shares."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig, PreTrainedConfig

from ragx.cepe import weights
from ragx.cepe.model import CepeModel, cepe_class
from ragx.cepe.placement import Placement
from ragx.errors import ModelError
from ragx.util.terminal import quiet_transformers
from ragx.util.text import first_line

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types whose layers are pre-norm: norm, self-attention, norm, feed-forward, each with a residual."""


def load_checkpoint(folder: Path, placement: Placement) -> CepeModel:
    """A checkpoint in the authors' layout: a decoder's config with `encoder_config` and `num_cross_attn_layers` in it.

    ragx's own may name `cross_attention_layers` one by one, and say `shared_embeddings`; see `CepeModel`.

    Raises:
        ModelError: a key is missing from the weights or unexpected in them, or they do not fit into memory.
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


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a model folder.

    Raises:
        ModelError: they cannot be read.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{folder / 'config.json'} is not a model's configuration")
    return values


def decoder_config(values: dict[str, Any]) -> PreTrainedConfig:
    """The settings as transformers knows them.

    Raises:
        ModelError: the model is not of the Llama family, or a setting cannot be.
    """
    if not isinstance(values, dict):
        raise ModelError(f"config.json is damaged: {values!r} is no model's configuration")
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise ModelError(
            f"model type {kind!r} is no decoder that ragx supports; choose one of {', '.join(sorted(FAMILIES))}"
        )
    try:
        return AutoConfig.for_model(**values)
    except Exception as error:  # of any class, as the setting that cannot be
        raise ModelError(f"config.json is damaged: {type(error).__name__}: {first_line(error)}") from None


def with_encoder(
    config: PreTrainedConfig, encoder_config: PreTrainedConfig, layers: list[int], *, shared_embeddings: bool
) -> PreTrainedConfig:
    """The decoder's settings with those that `CepeModel` adds."""
    config.encoder_config = encoder_config
    config.cross_attention_layers = layers
    config.shared_embeddings = shared_embeddings
    config.shared_encoder_layers = 0
    return config


def from_pretrained(
    folder: Path, config: PreTrainedConfig, placement: Placement, shapes: weights.Shapes
) -> tuple[CepeModel, set[str]]:
    """The model in eval mode with the weights of `folder`, and the keys that they lack.

    Args:
        folder: of a decoder or a whole reader.
        config: of the reader.
        placement: of the weights.
        shapes: of all the reader's weights, those that are not in `folder` among them.

    Raises:
        ModelError: weights are unexpected or of another shape than the settings say, or do not fit into memory.
    """
    _check_sizes(shapes, config)
    placement.check_memory(shapes)
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
                ignore_mismatched_sizes=True,  # they are told below
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
    # a decoder's folder may ask for sampling, beams or penalties; how it decodes is for who asks it to say
    asked = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=asked.bos_token_id, eos_token_id=asked.eos_token_id, pad_token_id=asked.pad_token_id
    )
    return model, set(info["missing_keys"])


def refuse_missing(keys: set[str]) -> None:
    """Raise a `ModelError` that lists `keys`, if there are any."""
    if keys:
        raise ModelError(f"weights are missing: {', '.join(sorted(keys))}")


def _check_sizes(shapes: weights.Shapes, config: PreTrainedConfig) -> None:
    """Compare the settings with the weights before a model of a wrong size, maybe a huge one, is built."""
    layers = {int(key.split(".")[2]) for key in shapes if key.startswith("model.layers.")}
    expected = {
        "layers": (config.num_hidden_layers, max(layers, default=-1) + 1),
        "vocabulary and width": ([config.vocab_size, config.hidden_size], shapes.get("model.embed_tokens.weight")),
    }
    for what, (said, found) in expected.items():
        if said != found:
            raise ModelError(f"config.json and weights disagree on {what}: {said} and {found}")
