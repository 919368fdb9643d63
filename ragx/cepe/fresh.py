"""An untrained reader around any Llama-family decoder, initialized from the decoder's weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from ragx.cepe import weights
from ragx.cepe.encoder import PassageEncoder
from ragx.cepe.loading import decoder_config, from_pretrained, refuse_missing, with_encoder
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.errors import ConfigError
from ragx.models import read_config
from ragx.types import Init

ENCODER_LAYERS = 2
"""Decoder layers, from the first, that form a fresh encoder by default."""


def fresh(
    folder: Path,
    placement: Placement,
    *,
    encoder_layers: Sequence[int] | None = None,
    encoder: PreTrainedConfig | None = None,
    shared_encoder_layers: int = 0,
    cross_attention_layers: Sequence[int] | None = None,
    output_gain: float = 0.0,
    init: Init = "induction",
) -> CepeModel:
    """A reader around the decoder in `folder`.

    The encoder consists of decoder layers made bidirectional, with the decoder's embeddings. Cross-attention starts
    from the self-attention of its layer.

    Args:
        folder: the decoder.
        placement: where the weights go.
        encoder_layers: decoder layers that form the encoder, in this order; None: the first two.
        encoder: settings of an encoder with random weights and its own embeddings, instead of `encoder_layers`; its
            width E is at most W, and cross-attention starts from the first E input columns (paper A.2).
        shared_encoder_layers: the number of first encoder layers that stay the decoder's own: they are neither trained
            nor saved.
        cross_attention_layers: decoder layers that get cross-attention; None: all.
        output_gain: scale of the output projection relative to its layer's self-attention. At 0 the reader answers
            exactly as its decoder; above 0, layers that continue repeated text (induction heads) attend to passages
            from the first training step. Only with the init `induction`.
        init: how cross-attention starts.

    Raises:
        ModelError: the decoder is not of the Llama family, or does not fit into memory.
        ConfigError: the decoder has no such layer, the shared layers are not its first ones, or the encoder is wider.
    """
    config = decoder_config(read_config(folder))
    all_layers = list(range(config.num_hidden_layers))
    layers = all_layers if cross_attention_layers is None else list(cross_attention_layers)
    if encoder is not None:
        encoder_layers = []
        if encoder.hidden_size > config.hidden_size:
            raise ConfigError(f"the encoder's width {encoder.hidden_size} exceeds the decoder's {config.hidden_size}")
    elif encoder_layers is None:
        encoder_layers = all_layers[:ENCODER_LAYERS]
    if unknown := sorted({*encoder_layers, *layers} - set(all_layers)):
        raise ConfigError(f"the decoder has layers 0 to {all_layers[-1]}, got {unknown[0]}")
    if list(encoder_layers[:shared_encoder_layers]) != all_layers[:shared_encoder_layers]:
        raise ConfigError(f"shared encoder layers must be the decoder's first ones, got {list(encoder_layers)}")
    own_embeddings = encoder is not None
    encoder = encoder or encoder_config(config, len(encoder_layers))
    config = with_encoder(config, encoder, layers, shared_embeddings=not own_embeddings)
    config.shared_encoder_layers = shared_encoder_layers
    shapes = weights.shapes(folder)
    shapes |= _added_shapes(shapes, encoder_layers, layers)
    if own_embeddings:
        shapes |= _encoder_shapes(encoder)
    model, missing = from_pretrained(folder, config, placement, shapes)
    refuse_missing({key for key in missing if not is_added(key)})
    fill_encoder(model, folder, encoder_layers)
    _initialize(model, folder, output_gain, init)
    return model


def is_added(key: str, config: PreTrainedConfig | None = None) -> bool:
    """Whether the reader adds this state-dict key; with `config`, shared encoder layers do not count."""
    if key.startswith("encoder.layers."):
        return int(key.split(".")[2]) >= getattr(config, "shared_encoder_layers", 0)
    return key.startswith("encoder.") or ".cross_attn." in key


def encoder_config(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    """Settings of an encoder that consists of decoder layers."""
    encoder = copy.deepcopy(config)
    encoder.num_hidden_layers = layers
    if getattr(encoder, "layer_types", None):
        encoder.layer_types = ["full_attention"] * layers  # no sliding windows
    return encoder


def _added_shapes(shapes: weights.Shapes, encoder_layers: Sequence[int], layers: Sequence[int]) -> weights.Shapes:
    """Shapes of the weights that the reader adds; the keys are distinct but not those of the state dict."""
    added: weights.Shapes = {}
    for number, layer in enumerate(encoder_layers):
        prefix = f"model.layers.{layer}."
        added |= {f"encoder.{number}.{key}": shape for key, shape in shapes.items() if key.startswith(prefix)}
    for layer in layers:
        prefix = f"model.layers.{layer}.self_attn."
        added |= {f"{key}.cross_attn.": shape for key, shape in shapes.items() if key.startswith(prefix)}
    return added


def _encoder_shapes(config: PreTrainedConfig) -> weights.Shapes:
    with torch.device("meta"):
        encoder = PassageEncoder(copy.deepcopy(config))
    return {f"encoder.{name}": list(tensor.shape) for name, tensor in encoder.named_parameters()}


@torch.no_grad()
def _initialize(model: CepeModel, folder: Path, output_gain: float, init: Init) -> None:
    """Initialize cross-attention from the decoder's files, because its weights in memory may be quantized."""
    model.encoder.norm.weight.fill_(1.0)
    names = [f"self_attn.{name}_proj.weight" for name in "qkvo"]
    before = "input_layernorm.weight" if init == "induction" else "post_attention_layernorm.weight"
    gain = {"induction": output_gain, "paper": 0.0, "released": 1.0}[init]
    for layer in model.config.cross_attention_layers:
        cross = model.model.layers[layer].cross_attn
        decoder = _layer_weights(folder, layer, [*names, before])
        query, key, value, output = (decoder[name] for name in names)
        norm = decoder[before]
        folded = norm if init == "induction" else 1.0
        width = cross.k_proj.in_features  # if E < W, the paper keeps the first E input columns
        cross.q_proj.weight.copy_(query)
        cross.k_proj.weight.copy_((key * folded)[:, :width])
        cross.v_proj.weight.copy_((value * folded)[:, :width])
        cross.o_proj.weight.copy_(output * gain)
        cross.layernorm.weight.copy_(norm)


def fill_encoder(model: CepeModel, folder: Path, layers: Sequence[int]) -> None:
    """Copy `layers` of the decoder in `folder` into the encoder's first layers."""
    for own, source in zip(model.encoder.layers, layers, strict=False):
        own.load_state_dict(_layer_weights(folder, source, own.state_dict()))


def _layer_weights(folder: Path, layer: int, names: Sequence[str] | dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one decoder layer, by name within the layer."""
    prefix = f"model.layers.{layer}."
    tensors = weights.read(folder, {prefix + name for name in names})
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
