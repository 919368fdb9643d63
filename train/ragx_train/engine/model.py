"""The reader to train: fresh or from an earlier stage, what is trained in fp32 and the rest as the precision says."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from ragx.cepe import load
from ragx.cepe.fresh import encoder_config, fresh
from ragx.cepe.loading import decoder_config, read_config
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.errors import ConfigError
from ragx.models import fingerprint, list_models, resolve
from ragx.util.tokenization import load_tokenizer
from ragx_train.settings import EncoderSettings, LoopSettings, ModelSettings

READER = "reader"
"""Where an out folder holds the reader it ends with."""


def reader_to_train(settings: ModelSettings, loop: LoopSettings) -> tuple[CepeModel, PreTrainedTokenizerFast]:
    """The reader in training mode on the CPU, and its decoder's tokenizer.

    Encoder and cross-attention are trained and in fp32, as far as the settings do not freeze them. The rest wants no
    gradient and is in the number format of `loop.precision`.

    Raises:
        ConfigError: `settings.init_from` is no reader, or one of another decoder or other layers than the settings say;
            the decoder may be another of the same vocabulary where an encoder of its own is all that was trained.
        ModelError: a model is missing or damaged.
    """
    dtype = torch.bfloat16 if loop.precision == "bf16" else torch.float32
    decoder = resolve(settings.decoder, "decoder")
    if settings.init_from is None:
        model = fresh(
            decoder,
            Placement(dtype, "cpu"),
            encoder_layers=settings.encoder_layers,
            encoder=None if settings.encoder is None else _own_encoder(settings.encoder, decoder),
            shared_encoder_layers=0 if settings.random_encoder else settings.frozen_encoder_layers,
            cross_attention_layers=settings.cross_attention_layers,
            output_gain=settings.output_gain,
        )
    else:
        model = load(str(_reader_folder(settings.init_from)), dtype=dtype, device="cpu")
        _check_fit(model, settings, decoder)
        moves = _moves(model, decoder)
        if moves:
            encoder, its_settings = model.encoder, model.config.encoder_config
            del model  # with the other decoder
            model = fresh(
                decoder,
                Placement(dtype, "cpu"),
                encoder=its_settings,
                cross_attention_layers=settings.cross_attention_layers,
                output_gain=settings.output_gain,
            )
            model.encoder.load_state_dict(encoder.state_dict())
        model.config.shared_encoder_layers = min(model.config.shared_encoder_layers, settings.frozen_encoder_layers)
    model.attention_strategy = "cached"  # the others are for decoding; in training this one projects anew
    if settings.random_encoder or (settings.encoder is not None and settings.init_from is None):
        torch.manual_seed(loop.seed)
        model.encoder.apply(model._init_weights)
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if _is_trained(name, settings):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    if settings.init_from is not None:
        _restore_precision(model, _reader_folder(settings.init_from), "encoder." if moves else "")
    if loop.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    return model, load_tokenizer(decoder)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def fingerprints(settings: ModelSettings) -> dict[str, str]:
    """SHA-256 (hex) of the models that a reader is made from, by the settings that name them.

    Raises:
        ConfigError: `settings.init_from` is no reader.
        ModelError: a model is missing or damaged.
    """
    found = {"model.decoder": fingerprint(resolve(settings.decoder, "decoder"))}
    if settings.init_from is not None:
        found["model.init_from"] = fingerprint(_reader_folder(settings.init_from))
    return found


def _is_trained(name: str, settings: ModelSettings) -> bool:
    if ".cross_attn." in name:
        return True
    if not name.startswith("encoder.") or settings.frozen_encoder:
        return False
    layer = name.removeprefix("encoder.layers.").split(".")[0]
    return not layer.isdecimal() or int(layer) >= settings.frozen_encoder_layers


def _own_encoder(settings: EncoderSettings, decoder: Path) -> PreTrainedConfig:
    config = encoder_config(decoder_config(read_config(decoder)), settings.layers)
    config.update(
        {
            "hidden_size": settings.width,
            "intermediate_size": settings.intermediate_size,
            "num_attention_heads": settings.heads,
            "num_key_value_heads": settings.heads,
            "head_dim": settings.width // settings.heads,
            "pad_token_id": None,  # else its embedding would stay zero, and it may be the mask token
        }
    )
    return config


def _reader_folder(start: str) -> Path:
    folder = Path(start).expanduser()
    if (folder / READER / "config.json").is_file():
        return folder / READER
    if (folder / "config.json").is_file():
        return folder
    if start in {model.name for model in list_models() if model.kind == "reader"}:
        return resolve(start, "reader")
    raise ConfigError(f"model.init_from: {start} holds no reader; finish the earlier stage, or set it to null")


def _moves(model: CepeModel, decoder: Path) -> bool:
    """Whether the encoder alone is gone on from, since it has nothing but the vocabulary of the start's decoder."""
    return not model.config.shared_embeddings and not model.is_trained and str(model.name_or_path) != str(decoder)


def _check_fit(model: CepeModel, settings: ModelSettings, decoder: Path) -> None:
    encoder = model.config.encoder_config
    own = None
    if not model.config.shared_embeddings:
        own = EncoderSettings(
            layers=encoder.num_hidden_layers,
            width=encoder.hidden_size,
            heads=encoder.num_attention_heads,
            intermediate_size=encoder.intermediate_size,
        )
    fits: list[tuple[str, object, object]] = [
        ("encoder", settings.encoder, own),
        ("number of encoder_layers", len(settings.encoder_layers), 0 if own else len(model.encoder.layers)),
    ]
    if not _moves(model, decoder):
        fits.insert(0, ("decoder", str(decoder), str(model.name_or_path)))
        layers = list(model.config.cross_attention_layers)
        fits.append(("cross_attention_layers", settings.cross_attention_layers, layers))
    elif load_tokenizer(Path(str(model.name_or_path))).get_vocab() != load_tokenizer(decoder).get_vocab():
        raise ConfigError(
            f"model.init_from: the encoder of {settings.init_from} reads the tokens of {model.name_or_path},"
            f" and those of {decoder} are others: give another start or decoder"
        )
    for what, said, found in fits:
        if said != found:
            raise ConfigError(f"model.init_from: {what} is {found} in {settings.init_from} but {said} in the settings")


@torch.no_grad()
def _restore_precision(model: CepeModel, folder: Path, prefix: str) -> None:
    """Go on from the fp32 weights that the earlier stage has left, not from what they are in the decoder's format.

    That is those whose names begin with `prefix`.
    """
    stored = load_file(folder / "model.safetensors")
    for name, weight in trained(model).items():
        if name.startswith(prefix) and name in stored and stored[name].dtype == torch.float32:
            weight.copy_(stored[name])
