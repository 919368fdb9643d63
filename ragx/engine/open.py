"""Open a reader on a backend: torch, or compiled graphs on the CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from ragx import models
from ragx.cepe.rope import ROPE_TYPES
from ragx.config import EncodingOptions, ModelOptions
from ragx.engine.backend import ReaderModel
from ragx.errors import ConfigError, ModelError
from ragx.types import AttentionStrategy
from ragx.util.device import has_gpu
from ragx.util.terminal import notice
from ragx.util.tokenization import Tokenizer, load_tokenizer

Backend = Literal["torch", "cpu"]

FAMILIES = {"llama", "mistral", "qwen2", "qwen3", "smollm3"}


def open_model(options: EncodingOptions) -> tuple[ReaderModel, Tokenizer]:
    """Load a reader's model, on the backend that `choose_backend` names, and its tokenizer.

    Raises:
        ConfigError, ModelError: as `choose_backend` and `cepe.load`.
    """
    backend, _ = choose_backend(options)
    uncompiled = None
    if backend == "cpu":
        from ragx.engine.cpu.cache import compiled
        from ragx.engine.cpu.model import CpuModel

        try:
            folder = compiled(options.model)
            reader = CpuModel(folder, frugal=options.frugal)
            reader.sharpen_beyond = options.sharpen_beyond
            return reader, Tokenizer.open(folder)
        except ModelError as error:
            if options.backend == "cpu":
                raise
            uncompiled = error
    from ragx import cepe, extensible

    folder = models.resolve(options.model)
    load = extensible.load if extensible.is_extensible(folder) else partial(cepe.load, plain=True)
    model = load(
        options.model,
        device=options.device,
        dtype=options.dtype,
        bits=options.bits,
        rope_scaling=options.rope_scaling,
        decoder=options.decoder,
    )
    model.attention_strategy = _strategy(options)
    model.sharpen_beyond = options.sharpen_beyond
    if uncompiled is not None:  # the model itself is sound, so its cache is not
        notice(f"{options.model} runs uncompiled: {uncompiled}")
    return model, load_tokenizer(Path(str(model.name_or_path)))


def choose_backend(options: EncodingOptions) -> tuple[Backend, str]:
    """The backend of `options.backend`, or for `auto` the CPU's where it can do what is asked; and why.

    Raises:
        ConfigError: the CPU backend is asked for and cannot do what other options ask for.
        ModelError: the model is missing.
    """
    if options.backend == "torch":
        return "torch", "as asked"
    reason = _only_torch(options)
    if options.backend == "cpu":
        if reason is not None:
            raise ConfigError(f"the CPU backend cannot be used: {reason}")
        return "cpu", "as asked"
    return ("cpu", "the fastest without a GPU") if reason is None else ("torch", reason)


def _strategy(options: EncodingOptions) -> AttentionStrategy:
    return options.attention_strategy if isinstance(options, ModelOptions) else "auto"


def _only_torch(options: EncodingOptions) -> str | None:
    """Why only torch can do what is asked; None if the CPU backend can."""
    for name, value, default in (
        ("dtype", options.dtype, "auto"),
        ("bits", options.bits, None),
        ("attention_strategy", _strategy(options), "auto"),
        ("rope_scaling", options.rope_scaling, None),
        ("decoder", options.decoder, None),
    ):
        if value != default:
            return f"{name} is {value}"
    if options.device not in (None, "auto", "cpu"):
        return f"the device is {options.device}"
    if options.device != "cpu" and has_gpu():
        return "there is a GPU"
    return unsupported(models.resolve(options.model))


def unsupported(folder: Path) -> str | None:
    """Why the model in `folder` cannot be compiled; None if it can.

    Raises:
        ModelError: a configuration cannot be read.
    """
    values = models.read_config(folder)
    if "extensible" in values:
        return "it has an extensible embedder"
    decoder = values
    if "decoder" in values:
        decoder = models.read_config(models.resolve(str(values["decoder"]["name"]), "decoder"))
    try:
        return _unsupported(decoder) or _unsupported(values.get("encoder_config") or decoder)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'} is damaged: {error}") from None


def _unsupported(config: dict[str, Any]) -> str | None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if (family := config["model_type"]) not in FAMILIES:
        return f"its model type is {family}"
    if (activation := config.get("hidden_act", "silu")) != "silu":
        return f"its activation is {activation}"
    if kind not in ROPE_TYPES:
        return f"its positions are {kind}"
    if window and window < config["max_position_embeddings"]:
        return "it has a sliding window"
    if head_dim % 16:  # of ONNX Runtime's rotary embedding
        return f"its head width {head_dim} is not a multiple of 16"
    return None
