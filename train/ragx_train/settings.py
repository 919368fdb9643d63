"""The settings that recipes share: model, documents and loop. A recipe's own stand in its file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ragx.config import DatasetSource, Settings
from ragx.errors import ConfigError

Layers = list[Annotated[int, Field(ge=0)]]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class EncoderSettings(Settings):
    """An encoder of a size of its own, with its own embeddings; it starts at random (paper A.1)."""

    layers: int = Field(ge=1)
    width: int = Field(ge=1)
    """E, at most the decoder's."""
    heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    """Width between the matrices of the feed-forward network."""

    @model_validator(mode="after")
    def _heads_can_be_rotated(self) -> EncoderSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not {self.heads} heads of an even size")
        return self


class ModelSettings(Settings):
    """Which reader is trained, and which of its added weights (the decoder's are never)."""

    decoder: str
    """A Llama-family decoder: a name, a folder or a Hub id."""
    init_from: str | None = None
    """The out folder of an earlier stage, a reader's folder or name, to go on from; null: fresh from the decoder."""
    encoder_layers: Layers = Field(default=[])
    """The decoder's layers that start the encoder (their number and order are its architecture)."""
    encoder: EncoderSettings | None = None
    """Instead of `encoder_layers`: an encoder that has nothing of the decoder's but its vocabulary."""
    cross_attention_layers: Layers = Field(min_length=1)
    """The decoder's layers that gain cross-attention."""
    output_gain: float = Field(default=0.0, ge=0)
    """A fresh output projection is self-attention's times this; 0 as in the paper (A.2)."""
    frozen_encoder_layers: int = Field(default=0, ge=0)
    """So many of the encoder's first layers stay as they are."""
    frozen_encoder: bool = False
    """Ablation (paper Table 5): no weight of the encoder is trained."""
    random_encoder: bool = False
    """Ablation (paper Table 5): a fresh encoder starts from random weights."""

    @model_validator(mode="after")
    def _the_encoder_is_clear(self) -> ModelSettings:
        if bool(self.encoder_layers) == bool(self.encoder):
            raise ValueError("give either encoder_layers or encoder")
        if self.frozen_encoder_layers > len(self.encoder_layers):
            raise ValueError(f"frozen_encoder_layers is {self.frozen_encoder_layers} of {len(self.encoder_layers)}")
        if len(set(self.cross_attention_layers)) < len(self.cross_attention_layers):
            raise ValueError("cross_attention_layers names a layer twice")
        if self.random_encoder and self.init_from is not None:
            raise ValueError("random_encoder asks for a fresh encoder, so model.init_from must be null")
        return self


class Mixture(Settings):
    """How often each way of cutting sequences is used; paper 2.2: two from `filter` for one from `cat`."""

    filter: int = Field(default=2, ge=0)
    """Sequences inside one document that is at least as long."""
    cat: int = Field(default=1, ge=0)
    """Sequences of concatenated documents."""

    @model_validator(mode="after")
    def _something_is_used(self) -> Mixture:
        if self.filter + self.cat == 0:
            raise ValueError("filter and cat cannot both be 0")
        return self


class DocumentSettings(Settings):
    """The documents that sequences are cut from."""

    folder: str = "."
    """Where relative paths among `sources` start from, those of datasets too."""
    sources: list[str | DatasetSource] = Field(min_length=1)
    """JSON lines (`.jsonl`, also `.gz`, `.xz`, `.zst`), text files (each a document), folders of either, datasets."""
    mix: Mixture = Mixture()
    filter_domains: list[str] = Field(default=[])
    """Domains that `filter` draws from (paper 2.2: ArXiv and Books); empty: all."""
    test: Share = 0.01
    """Share of the documents kept for validation, by the SHA-256 of their text."""
    retrieval: Share = 0.0
    """Share of the documents kept as a corpus to retrieve from."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> DocumentSettings:
        if self.test + self.retrieval >= 1:
            raise ValueError("test and retrieval leave no document to train on")
        return self


class LoopSettings(Settings):
    """How a recipe is optimised, checked and saved."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Examples a step, over all devices."""
    micro_batch: int = Field(ge=1)
    """Examples at once on a device; a step accumulates the gradients of as many as it needs."""
    learning_rate: float = Field(gt=0)
    """At its peak."""
    warmup: Share = 0.04
    """Share of the steps over which the learning rate rises; then it falls as a cosine to 0."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: autocast over fp32 copies of what is trained, everything else held in bf16."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass rather than keep them."""
    shard: bool = False
    """Spread weights, gradients and moments over the devices (FSDP) instead of holding all of them on each."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches ahead; the batches are the same with any number."""
    validate_every: int = Field(default=200, ge=1)
    validation_examples: int = Field(default=32, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)


FREE_TO_CHANGE = frozenset(
    {
        "loop.micro_batch",
        "loop.activation_checkpointing",
        "loop.shard",
        "loop.workers",
        "loop.validate_every",
        "loop.checkpoint_every",
    }
)
"""What a resumed run may set anew: it changes neither the order of the data nor what is optimised."""


class RecipeSettings(Settings):
    """What every recipe has; a recipe adds its `data` and its own numbers."""

    model: ModelSettings
    loop: LoopSettings


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `45m`, `2h` or `1h30m`.

    Raises:
        ConfigError: it is written otherwise, or is 0.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    seconds = 0
    if match:
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not seconds:
        raise ConfigError(f"--time-limit {text!r} is not a time such as 90s, 45m or 1h30m")
    return float(seconds)
