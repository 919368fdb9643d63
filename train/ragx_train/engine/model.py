"""The reader to train, fresh or from an earlier stage: trained weights in fp32, frozen ones in `loop.precision`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedConfig

from ragx.cepe import load, weights
from ragx.cepe.fresh import encoder_config, fresh, is_added
from ragx.cepe.loading import decoder_config
from ragx.cepe.model import CepeModel
from ragx.cepe.placement import Placement
from ragx.errors import ConfigError
from ragx.models import fingerprint, list_models, read_config, resolve
from ragx.util.tokenization import Tokenizer, load_tokenizer
from ragx_train.engine.fusion import fuse
from ragx_train.self_attention import BLOCK_ATTENTION
from ragx_train.settings import DecoderSettings, EncoderSettings, LoopSettings, ModelSettings

PROBES = {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"}
"""Weights that tell decoders apart, whatever their number format."""
READER = "reader"
"""The folder of the finished reader in an out folder."""


def reader_to_train(settings: ModelSettings, loop: LoopSettings) -> tuple[CepeModel, Tokenizer]:
    """The reader in training mode on the CPU, and its decoder's tokenizer.

    Encoder and cross-attention, except frozen parts, require gradients and are in fp32; all other weights are in the
    number format of `loop.precision`.

    Raises:
        ConfigError: `settings.init_from` is not a reader, or its decoder or layers differ from the settings. The
            decoder may be another one with the same vocabulary if only a standalone encoder has been trained.
        ModelError: a model is missing or damaged.
    """
    dtype = torch.bfloat16 if loop.precision == "bf16" else torch.float32
    decoder = resolve(settings.decoder, "decoder")
    if settings.init_from is None:
        plain = decoder_config(read_config(decoder))
        model = fresh(
            decoder,
            Placement(dtype, "cpu"),
            encoder_layers=settings.encoder_layers,
            encoder=None if settings.encoder is None else standalone(settings.encoder, plain),
            shared_encoder_layers=0 if settings.random_encoder else settings.frozen_encoder_layers,
            cross_attention_layers=settings.cross_attention_layers,
            output_gain=settings.output_gain,
            init=settings.init,
        )
    else:
        start = reader_folder(settings.init_from)
        if _is_encoder(start):
            model = _with_encoder(start, decoder, settings, dtype)
        else:
            model = load(str(start), dtype=dtype, device="cpu")
            if "decoder" not in read_config(start) and not model.config.shared_embeddings:
                model = _around(decoder, model, settings.init_from, dtype)
        _check_fit(model, settings, decoder)
        encoder_only = _takes_encoder_only(model, decoder)
        if encoder_only:
            encoder, config = model.encoder, model.config.encoder_config
            del model  # and with it the other decoder
            model = fresh(
                decoder,
                Placement(dtype, "cpu"),
                encoder=config,
                cross_attention_layers=settings.cross_attention_layers,
                output_gain=settings.output_gain,
                init=settings.init,
            )
            model.encoder.load_state_dict(encoder.state_dict())
        model.config.shared_encoder_layers = min(model.config.shared_encoder_layers, settings.frozen_encoder_layers)
    model.attention_strategy = "cached"  # recomputed from the current weights while gradients are on
    if settings.random_encoder or (settings.encoder is not None and settings.init_from is None):
        torch.manual_seed(loop.seed)
        model.encoder.apply(model._init_weights)
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if is_trained(name, settings):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    if settings.init_from is not None:
        _restore_precision(model, reader_folder(settings.init_from), "encoder." if encoder_only else "")
    if loop.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.config._attn_implementation = BLOCK_ATTENTION  # not the encoder's, as set_attn_implementation would
    model.train()
    if loop.compile:
        fuse(model)
    return model, load_tokenizer(decoder)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def fingerprints(settings: DecoderSettings) -> dict[str, str]:
    """SHA-256 (hex) of the models that a run starts from, by the settings that name them.

    Raises:
        ConfigError: `settings.init_from` is not a reader.
        ModelError: a model is missing or damaged.
    """
    digests = {"model.decoder": fingerprint(resolve(settings.decoder, "decoder"))}
    if settings.init_from is not None:
        digests["model.init_from"] = fingerprint(reader_folder(settings.init_from))
    return digests


def is_trained(name: str, settings: ModelSettings) -> bool:
    """Whether a weight is trained."""
    if ".cross_attn." in name:
        return True
    if not name.startswith("encoder.") or settings.frozen_encoder:
        return False
    layer = name.removeprefix("encoder.layers.").split(".")[0]
    return not layer.isdecimal() or int(layer) >= settings.frozen_encoder_layers


def standalone(settings: EncoderSettings, decoder: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of a standalone encoder for a decoder."""
    config = encoder_config(decoder, settings.layers)
    config.update(
        {
            "hidden_size": settings.width,
            "intermediate_size": settings.intermediate_size,
            "num_attention_heads": settings.heads,
            "num_key_value_heads": settings.heads,
            "head_dim": settings.width // settings.heads,
            "pad_token_id": None,  # its embedding would stay zero, and it may be the mask token
            "vocab_size": decoder.vocab_size + settings.mask_token,
            "max_position_embeddings": settings.window or decoder.max_position_embeddings,
            "rms_norm_eps": settings.norm_epsilon or decoder.rms_norm_eps,
        }
    )
    return config


def reader_folder(start: str) -> Path:
    """The folder of a reader: a run's, a folder itself, or that of a name.

    Raises:
        ConfigError: it is not a reader.
    """
    folder = Path(start).expanduser()
    if (folder / READER / "config.json").is_file():
        return folder / READER
    if (folder / "config.json").is_file():
        return folder
    if start in {model.name for model in list_models() if model.kind == "reader"}:
        return resolve(start, "reader")
    raise ConfigError(f"model.init_from: {start} is not a reader: finish the earlier stage, or set it to null")


def _takes_encoder_only(model: CepeModel, decoder: Path) -> bool:
    """Whether another decoder takes over the encoder of `model`, which depends only on the vocabulary."""
    return not model.config.shared_embeddings and not model.is_trained and str(model.name_or_path) != str(decoder)


def _vocabulary(decoder: Path) -> dict[str, int]:
    return load_tokenizer(decoder).backend.get_vocab()


def _check_fit(model: CepeModel, settings: ModelSettings, decoder: Path) -> None:
    encoder = model.config.encoder_config
    own = None
    if not model.config.shared_embeddings:
        own = EncoderSettings(
            layers=encoder.num_hidden_layers,
            width=encoder.hidden_size,
            heads=encoder.num_attention_heads,
            intermediate_size=encoder.intermediate_size,
            window=encoder.max_position_embeddings if settings.encoder and settings.encoder.window else None,
            norm_epsilon=encoder.rms_norm_eps if settings.encoder and settings.encoder.norm_epsilon else None,
            mask_token=encoder.vocab_size > model.config.vocab_size,
        )
    checks: list[tuple[str, object, object]] = [
        ("encoder", settings.encoder, own),
        ("number of encoder_layers", len(settings.encoder_layers), 0 if own else len(model.encoder.layers)),
    ]
    if not _takes_encoder_only(model, decoder):
        checks.insert(0, ("decoder", str(decoder), str(model.name_or_path)))
        layers = list(model.config.cross_attention_layers)
        checks.append(("cross_attention_layers", settings.cross_attention_layers, layers))
    elif _vocabulary(Path(str(model.name_or_path))) != _vocabulary(decoder):
        raise ConfigError(
            f"model.init_from: the encoder of {settings.init_from} has the vocabulary of {model.name_or_path}, not of"
            f" {decoder}: change model.init_from or model.decoder"
        )
    for name, expected, actual in checks:
        if expected != actual:
            raise ConfigError(f"model.init_from: {name} is {actual} in {settings.init_from}, not {expected}")


def _is_encoder(folder: Path) -> bool:
    """Whether a folder holds the authors' encoder alone, as masked language modelling leaves it."""
    return read_config(folder).get("architectures") == ["LlamaForMLM"]


def _with_encoder(folder: Path, decoder: Path, settings: ModelSettings, dtype: torch.dtype) -> CepeModel:
    """A fresh reader around a decoder, with the authors' encoder; its prediction head is left out.

    Raises:
        ConfigError: a weight of the encoder is missing.
    """
    model = fresh(
        decoder,
        Placement(dtype, "cpu"),
        encoder=decoder_config(read_config(folder)),
        cross_attention_layers=settings.cross_attention_layers,
        output_gain=settings.output_gain,
        init=settings.init,
    )
    names = {f"model.{name}" for name in model.encoder.state_dict()}
    stored = weights.read(folder, names)
    if missing := sorted(names - stored.keys()):
        raise ConfigError(f"model.init_from: {folder} has no {missing[0]}")
    model.encoder.load_state_dict({name.removeprefix("model."): weight for name, weight in stored.items()})
    return model


def _around(decoder: Path, released: CepeModel, start: str, dtype: torch.dtype) -> CepeModel:
    """A checkpoint in the authors' layout, which holds its decoder too, around that decoder's own files.

    Raises:
        ConfigError: they are of another decoder.
    """
    config, own = released.config, released.state_dict()
    for key, weight in weights.read(decoder, PROBES & weights.shapes(decoder).keys()).items():
        if weight.shape != own[key].shape or not torch.allclose(weight.float(), own[key].float(), rtol=1e-2, atol=1e-3):
            raise ConfigError(f"model.init_from: the decoder in {start} is not {decoder}: its {key} differs")
    added = {key: weight for key, weight in own.items() if is_added(key)}
    del released, own
    model = fresh(
        decoder,
        Placement(dtype, "cpu"),
        encoder=config.encoder_config,
        cross_attention_layers=list(config.cross_attention_layers),
    )
    model.load_state_dict(added, strict=False)
    return model


@torch.no_grad()
def _restore_precision(model: CepeModel, folder: Path, prefix: str) -> None:
    """Restore trained weights that were stored in fp32, without rounding, if their names begin with `prefix`."""
    parameters = {name: weight for name, weight in trained(model).items() if name.startswith(prefix)}
    if _is_encoder(folder):
        parameters = {name.replace("encoder.", "model.", 1): weight for name, weight in parameters.items()}
        parameters = {name: weight for name, weight in parameters.items() if ".cross_attn." not in name}
    for name, stored in weights.read(folder, parameters).items():
        if stored.dtype == torch.float32:
            parameters[name].copy_(stored)
