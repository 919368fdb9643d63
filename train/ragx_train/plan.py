"""`--plan`: what a run would take, from the settings and the decoder's config.json alone; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

from ragx.cepe.fresh import encoder_config
from ragx.cepe.loading import decoder_config, with_encoder
from ragx.cepe.model import cepe_class
from ragx.errors import ConfigError, ModelError
from ragx.models import read_config, registry, resolve
from ragx.util.text import first_line
from ragx_train.engine.model import is_trained, standalone

if TYPE_CHECKING:
    from ragx_train.settings import LoopSettings, RecipeSettings

PLANNED = frozenset({"mlm", "warmup", "cepe", "ceped", "retdoc"})
"""Recipes whose examples all have the same number of tokens."""
OPTIMIZER_BYTES = 16
"""Of a trained weight: itself, its gradient and two moments in fp32."""
GB = 1e9


@dataclass(frozen=True)
class Machine:
    """Where the run would be."""

    gpus: int = 1
    gpu_memory: float = 80
    """GB of each."""
    rate: float | None = None
    """Decoder tokens a second of all GPUs (mlm: the encoder's); None: unknown."""


@dataclass(frozen=True)
class Example:
    """Tokens of one example."""

    decoder: int
    encoder: int
    passage: int
    """Of the longest passage."""


def describe(recipe: str, settings: RecipeSettings, machine: Machine) -> str:
    """What a run would take, a line each.

    Raises:
        ConfigError: the recipe has no plan, or a setting cannot work; names the setting.
        ModelError: the decoder's config.json cannot be read.
    """
    if recipe not in PLANNED:
        raise ConfigError(f"--plan is for {', '.join(sorted(PLANNED))}")
    loop, example = settings.loop, example_of(recipe, settings)
    config = config_of(settings, decoder_values(settings.model.decoder))
    check(recipe, example, config, loop, machine)
    frozen, trained = parameters(recipe, settings, config)
    share = machine.gpus if loop.shard else 1
    precision = 2 if loop.precision == "bf16" else 4
    copies = 2 * trained if loop.precision == "bf16" else 0
    weights = (OPTIMIZER_BYTES * trained + precision * frozen + copies) / share
    activations = loop.micro_batch * activation_bytes(example, config, loop)
    if (needed := (weights + activations) / GB) > machine.gpu_memory:
        advice = "a smaller loop.micro_batch, loop.activation_checkpointing or loop.shard"
        raise ConfigError(f"a GPU of {machine.gpu_memory:g} GB cannot hold about {needed:.0f} GB: set {advice}")
    decoder, encoder = (loop.steps * loop.batch_size * each for each in (example.decoder, example.encoder))
    accumulated = -(-loop.batch_size // loop.micro_batch) // machine.gpus
    lines = [
        f"{loop.steps:,} steps of {loop.batch_size:,} examples, {accumulated} micro-batches of {loop.micro_batch}"
        f" on each of {machine.gpus} GPUs",
        f"{decoder / 1e9:,.2f}B tokens in the decoder, {encoder / 1e9:,.2f}B in the encoder",
        f"{trained / 1e6:,.0f}M trained parameters, {frozen / 1e6:,.0f}M frozen",
        f"{weights / GB:,.1f} GB a GPU for weights, gradients and moments, roughly {activations / GB:,.1f} GB for"
        " activations",
    ]
    if machine.rate:
        hours = (decoder or encoder) / machine.rate / 3600
        gpu_hours = f"{hours * machine.gpus:,.0f} GPU hours"
        lines.append(f"{hours:,.1f} hours, {gpu_hours}, at {machine.rate:,.0f} tokens a second")
    return "\n".join(lines)


def example_of(recipe: str, settings: Any) -> Example:
    """The tokens of an example of a recipe."""
    if recipe == "mlm":
        return Example(0, settings.tokens, settings.tokens)
    if recipe == "warmup":
        return Example(settings.tokens, settings.tokens, min(settings.chunk, settings.tokens))
    if recipe == "retdoc":
        return Example(settings.decoder_tokens, settings.passages * settings.passage_tokens, settings.passage_tokens)
    return Example(settings.decoder_tokens, settings.encoder_tokens, min(settings.chunk, settings.encoder_tokens))


def decoder_values(name: str) -> dict[str, Any]:
    """The decoder's config.json: of a folder, the cache or the Hub; its weights are not downloaded.

    Raises:
        ModelError: it cannot be read.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return read_config(folder)
    try:
        return read_config(resolve(name, "decoder", allow_download=False))
    except ModelError:
        from huggingface_hub import hf_hub_download

        try:
            return read_config(Path(hf_hub_download(registry.find(name).hub, "config.json")).parent)
        except Exception as error:  # the Hub can fail in many ways
            raise ModelError(f"the config.json of {name} cannot be read: {first_line(error)}") from None


def config_of(settings: RecipeSettings, values: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of the reader.

    Raises:
        ConfigError: the decoder has no such layer, or the encoder is wider than it.
    """
    config, model = decoder_config(values), settings.model
    layers = [*model.cross_attention_layers, *model.encoder_layers]
    if unknown := [layer for layer in layers if layer >= config.num_hidden_layers]:
        raise ConfigError(f"the decoder has layers 0 to {config.num_hidden_layers - 1}, got {unknown[0]}")
    if model.encoder is not None and model.encoder.width > config.hidden_size:
        raise ConfigError(f"model.encoder.width {model.encoder.width} exceeds the decoder's {config.hidden_size}")
    if model.encoder is None:
        encoder = encoder_config(config, len(model.encoder_layers))
    else:
        encoder = standalone(model.encoder, config)
    return with_encoder(config, encoder, model.cross_attention_layers, shared_embeddings=model.encoder is None)


def check(recipe: str, example: Example, config: PreTrainedConfig, loop: LoopSettings, machine: Machine) -> None:
    """Raise a `ConfigError` if a window is too small or the GPUs cannot share a step."""
    read = example.decoder + (example.encoder if recipe == "ceped" else 0)
    if read > config.max_position_embeddings:
        who = "teacher" if recipe == "ceped" else "decoder"
        raise ConfigError(f"the {who} reads {read} tokens: the decoder's window has {config.max_position_embeddings}")
    if example.passage > config.encoder_config.max_position_embeddings:
        window = config.encoder_config.max_position_embeddings
        raise ConfigError(f"a passage has {example.passage} tokens: the encoder's window has {window}")
    if -(-loop.batch_size // loop.micro_batch) % machine.gpus:
        raise ConfigError(
            f"{machine.gpus} GPUs cannot share {loop.batch_size} examples in micro-batches of {loop.micro_batch}"
            " equally: change loop.batch_size or loop.micro_batch"
        )


def parameters(recipe: str, settings: RecipeSettings, config: PreTrainedConfig) -> tuple[int, int]:
    """Frozen and trained parameters."""
    with torch.device("meta"):
        model = cepe_class(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])(config)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    trained = sum(
        size
        for name, size in sizes.items()
        if is_trained(name, settings.model) and not (recipe == "mlm" and name.startswith("model."))
    )
    return sum(sizes.values()) - trained, trained


def activation_bytes(example: Example, config: PreTrainedConfig, loop: LoopSettings) -> int:
    """Bytes of an example's activations, roughly: what each matrix product and norm keeps for the backward pass."""
    size = 2 if loop.precision == "bf16" else 4
    total = 0
    for tokens, stack in ((example.decoder, config), (example.encoder, config.encoder_config)):
        heads = stack.num_attention_heads + stack.num_key_value_heads
        head_dim = getattr(stack, "head_dim", None) or stack.hidden_size // stack.num_attention_heads
        layer = 6 * stack.hidden_size + 2 * heads * head_dim + 3 * stack.intermediate_size
        kept = layer * stack.num_hidden_layers
        if loop.activation_checkpointing:
            kept = layer + stack.hidden_size * stack.num_hidden_layers
        total += tokens * kept * size
    return total
