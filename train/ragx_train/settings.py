"""The settings that recipes share: model, documents and loop. Each recipe's own are in its file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ragx.config import DatasetSource
from ragx.errors import ConfigError
from ragx.types import Init
from ragx.util.settings import Settings

Layers = list[Annotated[int, Field(ge=0)]]
Share = Annotated[float, Field(ge=0, le=1)]
Weights = dict[str, Annotated[float, Field(gt=0, le=1)]]
Decay = Annotated[float, Field(ge=0, lt=1)]


class EncoderSettings(Settings):
    """A standalone encoder with its own size and embeddings, randomly initialised (paper A.1)."""

    layers: int = Field(ge=1)
    width: int = Field(ge=1)
    """E, at most W."""
    heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    """Inner width of the feed-forward network."""
    window: int | None = Field(default=None, ge=1)
    """Tokens of the longest passage; null: the decoder's window."""
    norm_epsilon: float | None = Field(default=None, gt=0)
    """Of the norms; null: the decoder's."""
    mask_token: bool = False
    """Append a mask token to the vocabulary, which `mlm` then uses (released code)."""

    @model_validator(mode="after")
    def _head_size_is_even(self) -> EncoderSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 · {self.heads} heads")
        return self


class DecoderSettings(Settings):
    """The frozen decoder, and what training starts from."""

    decoder: str
    """A Llama-family decoder: a name, a folder or a Hub id."""
    init_from: str | None = None
    """Reader to start from: the out folder of an earlier stage, a folder or a name, the authors' checkpoints and the
    folder of their encoder (LlamaForMLM) included; null: a fresh one."""


class ModelSettings(DecoderSettings):
    """Which reader is trained, and which of its added weights; the decoder stays frozen."""

    encoder_layers: Layers = Field(default=[])
    """Decoder layers that initialise the encoder's layers, in order."""
    encoder: EncoderSettings | None = None
    """Instead of `encoder_layers`: an encoder that shares only the vocabulary with the decoder."""
    cross_attention_layers: Layers = Field(min_length=1)
    """Decoder layers that get cross-attention."""
    init: Init = "induction"
    """How fresh cross-attention starts: `induction` (ragx's), `paper` (A.2), or `released`: as the authors' warm-up."""
    output_gain: float = Field(default=0.0, ge=0)
    """induction: a fresh output projection is initialised with self-attention's times this."""
    frozen_encoder_layers: int = Field(default=0, ge=0)
    """Number of first encoder layers that stay frozen."""
    frozen_encoder: bool = False
    """Ablation (paper Table 5): the encoder stays frozen."""
    random_encoder: bool = False
    """Ablation (paper Table 5): a fresh encoder has random weights."""

    @model_validator(mode="after")
    def _encoder_is_unambiguous(self) -> ModelSettings:
        if bool(self.encoder_layers) == bool(self.encoder):
            raise ValueError("give exactly one of encoder_layers and encoder")
        if self.frozen_encoder_layers > len(self.encoder_layers):
            raise ValueError(f"frozen_encoder_layers must be at most {len(self.encoder_layers)}, the number of layers")
        if len(set(self.cross_attention_layers)) < len(self.cross_attention_layers):
            raise ValueError("cross_attention_layers repeats a layer")
        if self.init != "induction" and self.output_gain:
            raise ValueError(f"output_gain goes with init induction, not {self.init}, which sets the output itself")
        if self.random_encoder and self.init_from is not None:
            raise ValueError("random_encoder needs a fresh encoder: model.init_from must be null")
        return self


class Mixture(Settings):
    """Ratio of two kinds of sequences; paper 2.2: two of `filter` for one of `cat`."""

    filter: int = Field(default=2, ge=0)
    """Sequences within one document that is at least as long."""
    cat: int = Field(default=1, ge=0)
    """Sequences across concatenated documents."""

    @model_validator(mode="after")
    def _not_both_are_0(self) -> Mixture:
        if self.filter + self.cat == 0:
            raise ValueError("filter and cat cannot both be 0")
        return self


class DocumentSettings(Settings):
    """The documents that sequences are taken from."""

    folder: str = "."
    """Folder that relative `sources` start from, datasets included."""
    sources: list[str | DatasetSource] = Field(min_length=1)
    """JSON lines, compressed or not; text files, one document each; folders of both, or of tokens; datasets."""
    mix: Mixture = Mixture()
    filter_domains: list[str] = Field(default=[])
    """Domains that `filter` takes documents from (paper 2.2: ArXiv and Books); empty: all."""
    filter_weights: Weights = Field(default={})
    """Shares of `filter`'s sequences by domain (released code: as many of ArXiv as of Books); empty: by their text."""
    filter_stride: int | None = Field(default=None, ge=1)
    """Tokens from one sequence of a document to the next (released code: 4,096); null: a sequence, without overlap."""
    cat_weights: Weights = Field(default={})
    """Shares of `cat`'s sequences by domain, each within one domain; empty: across domains, by their text."""
    separators: Literal["eos", "bos-eos"] = "eos"
    """What `cat` joins documents by: the end-of-text token, or also the start token before each (released code)."""
    test: Share = 0.01
    """Share of the documents reserved for validation, by the SHA-256 of their text."""
    retrieval: Share = 0.0
    """Share of the documents reserved for retrieval."""

    @model_validator(mode="after")
    def _documents_remain(self) -> DocumentSettings:
        if self.test + self.retrieval >= 1:
            raise ValueError("test and retrieval must add up to less than 1")
        if self.filter_domains and self.filter_weights:
            raise ValueError("give filter_domains or filter_weights, not both")
        return self


class LoopSettings(Settings):
    """Optimisation, validation and checkpoints."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Examples in a step, over all devices."""
    micro_batch: int = Field(ge=1)
    """Examples processed at once on a device; a step accumulates their gradients."""
    learning_rate: float = Field(gt=0)
    """Peak."""
    warmup: Share = 0.04
    """Share of the steps over which the learning rate rises; then it follows a cosine to 0."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm are clipped."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: trained weights in fp32 under bf16 autocast, frozen weights in bf16."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile norms and feed-forward networks, which takes half a minute and is faster on GPUs."""
    shard: bool = False
    """Shard weights, gradients and moments over the devices (FSDP) instead of replicating them."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches; their number does not change the batches."""
    validate_every: int = Field(default=200, ge=1)
    validation_examples: int = Field(default=32, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)


FREE_TO_CHANGE = frozenset(
    {
        "loop.micro_batch",
        "loop.activation_checkpointing",
        "loop.compile",
        "loop.shard",
        "loop.workers",
        "loop.validate_every",
        "loop.checkpoint_every",
    }
)
"""Settings that a resumed run may change, because they affect neither data nor optimisation."""


class TrainingSettings(Settings):
    """What `ragx_train.engine.loop.train` needs."""

    model: DecoderSettings
    loop: LoopSettings


class RecipeSettings(TrainingSettings):
    """The settings of every recipe of a CEPE reader; each adds `data` and its own."""

    model: ModelSettings


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `45m`, `2h` or `1h30m`.

    Raises:
        ConfigError: it has another form or is 0.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    seconds = 0
    if match:
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not seconds:
        raise ConfigError(f"{text!r} is not a duration such as 90s, 45m or 1h30m")
    return float(seconds)
