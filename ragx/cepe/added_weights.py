"""Save and load a reader without its decoder: encoder, cross-attention, and the decoder's name and checksums.

config.json          encoder_config, cross_attention_layers, shared_embeddings, decoder: {name, sha256}
model.safetensors    the added weights by state-dict key; an int8 matrix has a `KEY.scale` with one scale per row;
                     its metadata hold the configuration too, which wins if `config.json` differs
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from ragx_kernels.cross_attention import dequantize, quantize
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ragx import models
from ragx.cepe import weights
from ragx.cepe.fresh import fill_encoder, is_added
from ragx.cepe.loading import decoder_config, from_pretrained, refuse_missing, with_encoder
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.errors import ConfigError, IndexFolderError, ModelError
from ragx.types import CrossAttend
from ragx.util.files import durable_file, sync_file
from ragx.util.terminal import notice

SCALE = ".scale"
CONFIG = "config"
"""Key of the configuration in the metadata of the weights file."""


def save_reader(model: CepeModel, folder: Path, *, decoder: str, added: Mapping[str, Tensor] | None = None) -> None:
    """Write the weights that `model` adds to its decoder.

    Args:
        model: the reader.
        folder: created if missing; a reader in it is replaced.
        decoder: name, folder or Hub id of the frozen decoder, whose weights are not written.
        added: the added weights by state-dict key, if `model` holds only a part of each.

    Raises:
        ModelError: the decoder does not exist, or the reader cannot be written.
    """
    config = model.config
    values: dict[str, Any] = {
        "architectures": ["CepeReader"],
        "model_type": config.model_type,
        "decoder": {"name": decoder, "sha256": models.weight_checksums(models.resolve(decoder, "decoder"))},
        "encoder_config": config.encoder_config.to_dict(),
        "cross_attention_layers": list(config.cross_attention_layers),
        "shared_embeddings": config.shared_embeddings,
        "shared_encoder_layers": config.shared_encoder_layers,
    }
    if model.cross_attend != "all":
        values["cross_attend"] = model.cross_attend
    if getattr(config, "trained_context_tokens", None):
        values["trained_context_tokens"] = config.trained_context_tokens
    state = model.state_dict() if added is None else added
    tensors = {key: tensor.detach().contiguous() for key, tensor in state.items() if is_added(key, config)}
    write(folder, values, tensors)


def quantize_reader(
    reader: Path,
    folder: Path,
    prompted_gain: float = 1.0,
    cross_attend: CrossAttend = "all",
    within: float | None = None,
) -> None:
    """Copy a reader with floating-point weights, its matrices quantized to int8 with one scale per row.

    Args:
        reader: folder of a reader saved without its decoder.
        folder: created if missing.
        prompted_gain: factor of the cross-attention's output if some passages are also in the prompt. Below 1 the
            decoder relies more on its prompt: models between a tuned one and its predecessor can be better than both
            (Wortsman et al., CVPR 2022).
        cross_attend: which tokens of a prompt attend to the passages: `all`, or those of the `question` and what
            follows it, which takes little more time than no passages.
        within: read only passages that a reranker scores at most this much below the best one; None: all.

    Raises:
        ConfigError: `prompted_gain` is negative or not finite.
        ModelError: `reader` includes its decoder, is no CEPE reader or already int8, or the copy cannot be written.
    """
    if not 0 <= prompted_gain < math.inf:
        raise ConfigError(f"prompted_gain must be at least 0, got {prompted_gain}")
    values = read_configuration(reader)
    if "decoder" not in values:
        raise ModelError(f"{reader} includes its decoder; only readers saved without it can be quantized")
    if "encoder_config" not in values:
        raise ModelError(f"{reader} is no CEPE reader; only these can be quantized")
    tensors = weights.read(reader, weights.shapes(reader).keys())
    if any(key.endswith(SCALE) for key in tensors):
        raise ModelError(f"{reader} is already in int8")
    added: dict[str, Any] = {"prompted_gain": prompted_gain, "cross_attend": cross_attend}
    if within is not None:
        added["within"] = within
    write(folder, values | added, _quantized(tensors))


def write(folder: Path, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write or replace a reader. The weights file contains the configuration, so one rename replaces both.

    `config.json` is a copy for people and other programs, so a crash before it is written does no harm.
    """
    draft = folder / ".model.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, draft, metadata={"format": "pt", CONFIG: json.dumps(values)})
        draft.chmod(0o644)  # safetensors makes files readable by their owner only
        sync_file(draft)
        draft.replace(folder / "model.safetensors")
        with durable_file(folder / "config.json") as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())
    except (OSError, SafetensorError, IndexFolderError) as error:
        draft.unlink(missing_ok=True)
        raise ModelError(f"cannot write the reader {folder}: {error}") from None


def read_configuration(folder: Path) -> dict[str, Any]:
    """The configuration in the weights file, or `config.json` for older readers, whose weights file has none."""
    values = models.read_config(folder)
    try:
        with safe_open(folder / "model.safetensors", "pt") as file:
            stored = (file.metadata() or {}).get(CONFIG)
        return values if stored is None else dict(json.loads(stored))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ModelError(f"{folder / 'model.safetensors'} cannot be read: {error}") from None


def load_reader(folder: Path, placement: Placement, decoder: str | None = None) -> CepeModel:
    """Load the reader in `folder` around its decoder, which is downloaded if missing.

    Args:
        folder: the reader.
        placement: where the weights go.
        decoder: a fine-tuned derivative of the reader's decoder that takes its place, as one with other weights at the
            same path does: a notice says so. The encoder's shared layers and embeddings are then the derivative's.

    Raises:
        ModelError: the decoder is not of the shape or vocabulary that the reader was trained with, or a key is missing
            or unexpected.
    """
    values = read_configuration(folder)
    try:
        encoder_values, layers = values["encoder_config"], list(values["cross_attention_layers"])
        embeddings, shared_layers = bool(values["shared_embeddings"]), int(values["shared_encoder_layers"])
        vocabulary = encoder_values.get("vocab_size")
        # the encoder reads the decoder's tokens; a table of its own may end with a mask token
        vocabularies = [vocabulary] if embeddings or vocabulary is None else [vocabulary, vocabulary - 1]
        wanted = {"model_type": [values.get("model_type")], "vocab_size": vocabularies}
        least_layers = max(layers, default=-1) + 1
        trained, prompted_gain = int(values.get("trained_context_tokens", 0)), float(values.get("prompted_gain", 1))
        cross_attend = values.get("cross_attend", "all")
        if cross_attend not in get_args(CrossAttend):
            raise ValueError(f"cross_attend is {cross_attend!r}")
    except KeyError as error:
        raise ModelError(f"{folder / 'config.json'} has no {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} is damaged: {error}") from None
    decoder_folder, plugged_in = find_decoder(folder, values["decoder"], decoder, wanted, least_layers=least_layers)
    decoder_values = models.read_config(decoder_folder)
    config = with_encoder(
        decoder_config(decoder_values),
        decoder_config(encoder_values),
        layers,
        shared_embeddings=embeddings,
    )
    config.shared_encoder_layers = shared_layers
    if trained:
        config.trained_context_tokens = trained
    config.prompted_gain = prompted_gain
    config.cross_attend = cross_attend
    added = {key: shape for key, shape in weights.shapes(folder).items() if not key.endswith(SCALE)}
    model, missing = from_pretrained(decoder_folder, config, placement, weights.shapes(decoder_folder) | added)
    refuse_missing({key for key in missing if not is_added(key)})
    with torch.no_grad():
        fill_encoder(model, decoder_folder, range(shared_layers))
        _load_added(model, folder)
    model.plugged_in = plugged_in
    return model


def find_decoder(
    reader: Path,
    trained: dict[str, Any],
    decoder: str | None,
    wanted: Mapping[str, Sequence[Any]],
    *,
    least_layers: int = 0,
) -> tuple[Path, str | None]:
    """The folder of a reader's decoder, or of the derivative in its place, with one notice.

    Args:
        reader: folder of the reader.
        trained: name and checksums of the decoder it was trained with.
        decoder: the derivative; None: there is none, but the weights at the path of the decoder may be others.
        wanted: possible values of settings that a derivative must share, if known; widths are checked with weights.
        least_layers: layers that it must have.

    Returns:
        The folder, and what identifies reader and derivative; None for the decoder it was trained with.

    Raises:
        ModelError: the decoder is missing, or the derivative does not fit; or `trained` is damaged.
    """
    try:
        own, checksums = str(trained["name"]), trained["sha256"]
    except (KeyError, TypeError) as error:
        raise ModelError(f"{reader / 'config.json'} does not name its decoder: {error}") from None
    decoder = own if decoder is None else decoder
    folder = models.resolve(decoder, "decoder")
    # a named model was checked against the registry; its files on the Hub and in a wheel may differ in layout
    same = decoder == own and models.is_named(own)
    if same or (other := models.weight_checksums(folder)) == checksums:
        return folder, None
    values = models.read_config(folder)
    for name, possible in wanted.items():
        if possible[0] is not None and values.get(name) not in possible:
            raise ModelError(f"the reader does not fit {decoder}: its {name} is {values.get(name)}, not {possible[0]}")
    if values.get("num_hidden_layers", 0) < least_layers:
        raise ModelError(f"the reader does not fit {decoder}, which has only {values.get('num_hidden_layers')} layers")
    notice(f"{decoder} is not the decoder that the reader was trained with, but has its shape: answers may be worse")
    pair = json.dumps([models.fingerprint(reader), other])
    return folder, hashlib.sha256(pair.encode()).hexdigest()


def _load_added(model: CepeModel, folder: Path) -> None:
    stored = weights.read(folder, weights.shapes(folder).keys())
    targets = {key: tensor for key, tensor in model.state_dict().items() if is_added(key, model.config)}
    unexpected = sorted(key for key in stored if key.removesuffix(SCALE) not in targets)
    if unexpected:
        raise ModelError(f"weights do not fit the model: {', '.join(unexpected)}")
    refuse_missing(targets.keys() - stored.keys())
    for key, target in targets.items():
        tensor = stored[key]
        if tensor.shape != target.shape:
            raise ModelError(f"weights do not fit the model: {key} is {tuple(tensor.shape)}, not {tuple(target.shape)}")
        if tensor.dtype == torch.int8:
            refuse_missing({key + SCALE} - stored.keys())
            tensor = dequantize(tensor, stored[key + SCALE], target.dtype)
        target.copy_(tensor)


def _quantized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with one scale per row; vectors unchanged."""
    result: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.ndim == 2:
            result[key], result[key + SCALE] = quantize(tensor)
        else:
            result[key] = tensor
    return result
