"""Save and load an embedder without its decoder, whose name and checksums are kept.

config.json          extensible: `EmbedderSettings`; model_type, vocab_size, hidden_size; decoder: {name, sha256}
model.safetensors    the embedder's weights; its metadata hold the configuration too
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ragx import models
from ragx.cepe import weights
from ragx.cepe.added_weights import find_decoder, read_configuration, write
from ragx.cepe.loading import decoder_config
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError, ModelError
from ragx.extensible.embedder import EmbedderSettings, ExtensibleEmbedder, embedder_of
from ragx.util.settings import checked

SHARED = ("model_type", "vocab_size", "hidden_size")
"""Settings that a derivative of the decoder must share with it."""
PREFIX = "extensible."
"""Begins the keys of the embedder's weights in the state dict of its model."""


def save_embedder(model: CepeModel, folder: Path, *, decoder: str, added: Mapping[str, Tensor] | None = None) -> None:
    """Write the embedder of `model`; arguments and errors as `ragx.cepe.added_weights.save_reader`."""
    state = model.state_dict() if added is None else added
    values: dict[str, Any] = {
        "architectures": ["ExtensibleReader"],
        **{name: getattr(model.config, name) for name in SHARED},
        "decoder": {"name": decoder, "sha256": models.weight_checksums(models.resolve(decoder, "decoder"))},
        "extensible": embedder_of(model).settings.model_dump(mode="json"),
    }
    write(folder, values, {key: state[key].detach().contiguous() for key in state if key.startswith(PREFIX)})


def find_decoder_of(folder: Path, decoder: str | None) -> tuple[Path, str | None]:
    """The folder of the embedder's decoder; arguments, result and errors as `find_decoder`."""
    values = read_configuration(folder)
    return find_decoder(folder, values.get("decoder", {}), decoder, {name: [values.get(name)] for name in SHARED})


@torch.no_grad()
def load_embedder(
    folder: Path, decoder: Path, model: CepeModel, dtype: torch.dtype | None = None
) -> ExtensibleEmbedder:
    """The embedder in `folder` for `model`, which was loaded from the folder `decoder`, on its device.

    `dtype` is the number format of its weights; None: that of the model's.

    Raises:
        ModelError: its settings or weights are damaged, or do not fit.
    """
    try:
        settings = checked(EmbedderSettings, read_configuration(folder)["extensible"])
    except (ConfigError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} is damaged: {error}") from None
    embedder = ExtensibleEmbedder(settings, decoder_config(models.read_config(decoder)))
    stored = weights.read(folder, weights.shapes(folder).keys())
    own = {PREFIX + name: tensor for name, tensor in embedder.state_dict().items()}
    if problems := sorted(
        key
        for key in own.keys() | stored.keys()
        if key not in own or key not in stored or own[key].shape != stored[key].shape
    ):
        raise ModelError(f"{folder}: weights do not fit the decoder: {', '.join(problems)}")
    for key, tensor in own.items():
        tensor.copy_(stored[key])
    return embedder.to(model.device, dtype or model.model.embed_tokens.weight.dtype).eval()
