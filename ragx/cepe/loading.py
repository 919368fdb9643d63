"""Load a CEPE reader: the authors' checkpoints as they are, or a fresh one around any Llama-family decoder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

from ragx.cepe.model import CepeModel, cepe_class
from ragx.errors import ModelError
from ragx.terminal import quiet_transformers

ENCODER_LAYERS = 2
"""Layers of a fresh encoder: the decoder's first ones."""
FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types whose layers are pre-norm: norm, self-attention, norm, feed-forward, each with a residual."""


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` holds a whole CEPE model rather than a plain decoder."""
    return "encoder_config" in _read_config(folder)


def load_checkpoint(folder: Path, *, dtype: torch.dtype, device: str) -> CepeModel:
    """A checkpoint in the authors' layout: a decoder's config with `encoder_config` and `num_cross_attn_layers` in it.

    ragx's own may name `cross_attention_layers` one by one, and say `shared_embeddings`; see `CepeModel`.

    Raises:
        ModelError: a key is missing from the weights or unexpected in them.
    """
    values = _read_config(folder)
    encoder_values = values.pop("encoder_config")
    layers = values["num_hidden_layers"]
    count = values.pop("num_cross_attn_layers", layers)
    chosen = values.pop("cross_attention_layers", None) or list(range(layers - count, layers))
    shared = bool(values.pop("shared_embeddings", False))
    config = _decoder_config(values, folder)
    encoder_config = _decoder_config(encoder_values, folder)
    config = _with_encoder(config, encoder_config, chosen, shared_embeddings=shared)
    model, missing = _from_pretrained(folder, config, dtype, device)
    if missing:
        raise ModelError(f"weights are missing: {', '.join(sorted(missing))}")
    return model


def fresh(folder: Path, *, dtype: torch.dtype, device: str, encoder_layers: int = ENCODER_LAYERS) -> CepeModel:
    """An untrained reader around the decoder in `folder`: with its passages it answers exactly as without them.

    The encoder is the decoder's first `encoder_layers` layers made bidirectional, on the decoder's embeddings.
    Cross-attention starts from the self-attention of its layer with a zero output projection (paper A.2).

    Raises:
        ModelError: the decoder is not of the Llama family.
    """
    config = _decoder_config(_read_config(folder), folder)
    encoder_config = copy.deepcopy(config)
    encoder_config.num_hidden_layers = min(encoder_layers, config.num_hidden_layers)
    if getattr(encoder_config, "layer_types", None):
        encoder_config.layer_types = encoder_config.layer_types[: encoder_config.num_hidden_layers]
    layers = list(range(config.num_hidden_layers))
    config = _with_encoder(config, encoder_config, layers, shared_embeddings=True)
    model, missing = _from_pretrained(folder, config, dtype, device)
    strange = [key for key in missing if not key.startswith("encoder.") and ".cross_attn." not in key]
    if strange:
        raise ModelError(f"weights are missing: {', '.join(sorted(strange))}")
    initialise_from_decoder(model)
    return model


@torch.no_grad()
def initialise_from_decoder(model: CepeModel) -> None:
    """Start encoder and cross-attention from the decoder's own weights (paper A.2)."""
    for own, theirs in zip(model.encoder.layers, model.model.layers, strict=False):
        own.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("cross_attn.")})
    model.encoder.norm.load_state_dict(model.model.norm.state_dict())
    for layer in model.model.layers:
        cross, own = layer.cross_attn, layer.self_attn
        if cross is None:
            continue
        cross.q_proj.weight.copy_(own.q_proj.weight)
        width = cross.k_proj.in_features  # E may be smaller than W: the paper keeps the first E input columns
        cross.k_proj.weight.copy_(own.k_proj.weight[:, :width])
        cross.v_proj.weight.copy_(own.v_proj.weight[:, :width])
        cross.o_proj.weight.zero_()
        cross.layernorm.load_state_dict(layer.input_layernorm.state_dict())


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{folder / 'config.json'} is not a model's configuration")
    return values


def _decoder_config(values: dict[str, Any], folder: Path) -> PreTrainedConfig:
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise ModelError(
            f"model type {kind!r} is no decoder that ragx supports; choose one of {', '.join(sorted(FAMILIES))}"
        )
    return AutoConfig.for_model(**values)


def _with_encoder(
    config: PreTrainedConfig, encoder_config: PreTrainedConfig, layers: list[int], *, shared_embeddings: bool
) -> PreTrainedConfig:
    config.encoder_config = encoder_config
    config.cross_attention_layers = layers
    config.shared_embeddings = shared_embeddings
    return config


def _check_sizes(folder: Path, config: PreTrainedConfig) -> None:
    """Compare the settings with the weights before a model of a wrong size, maybe a huge one, is built."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            shapes |= {key: weights.get_slice(key).get_shape() for key in weights.keys()}  # noqa: SIM118
    layers = {int(key.split(".")[2]) for key in shapes if key.startswith("model.layers.")}
    expected = {
        "layers": (config.num_hidden_layers, max(layers, default=-1) + 1),
        "vocabulary and width": ([config.vocab_size, config.hidden_size], shapes.get("model.embed_tokens.weight")),
    }
    for what, (said, found) in expected.items():
        if said != found:
            raise ModelError(f"config.json and weights disagree on {what}: {said} and {found}")


def _from_pretrained(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype, device: str
) -> tuple[CepeModel, set[str]]:
    """The model in eval mode, and the keys its weights lack."""
    _check_sizes(folder, config)
    config.encoder_config.dtype = dtype
    decoder_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with quiet_transformers():
        loaded: Any = cepe_class(decoder_class).from_pretrained(
            folder, config=config, dtype=dtype, output_loading_info=True, local_files_only=True, use_safetensors=True
        )
    model: CepeModel = loaded[0]
    info: dict[str, set[str]] = loaded[1]
    problems = sorted(info["unexpected_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if problems:
        raise ModelError(f"weights do not fit the model: {', '.join(problems)}")
    model.to(torch.device(device)).eval()  # type: ignore[arg-type]
    return model, set(info["missing_keys"])
