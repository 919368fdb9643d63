"""Masked language modelling: pre-train the encoder alone, before the decoder attends to it (paper 2.3, A.1).

30 % of the tokens of each sequence are replaced by the mask token, and the encoder predicts them. The output matrix is
the decoder's, frozen, or the encoder's own embeddings if it has any; a head may precede it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from ragx_train.data.documents import open_corpus
from ragx_train.data.example import IGNORE, Batch, Example
from ragx_train.data.sequences import train_and_test
from ragx_train.engine.loop import Run, train
from ragx_train.engine.losses import Losses, cross_entropy, encode
from ragx_train.engine.model import reader_to_train
from ragx_train.engine.prediction_head import PredictionHead
from ragx_train.settings import DocumentSettings, RecipeSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


class MlmSettings(RecipeSettings):
    """`ragx train mlm`."""

    data: DocumentSettings
    tokens: int = Field(default=512, ge=2)
    """Tokens in a sequence, one passage of the encoder."""
    masked: float = Field(default=0.3, gt=0, lt=1)
    """Share of the tokens that are masked."""
    masking: Literal["share", "bernoulli"] = "share"
    """share: exactly this share of each sequence; bernoulli: each token with this probability (released code)."""
    mask_token: str | None = None
    """Replacement for masked tokens; null: the encoder's own (`model.encoder.mask_token`), or else the tokenizer's
    mask, unknown or padding token."""
    head: bool = False
    """Predict through a dense layer, SiLU and a norm, which the reader does not keep (released code)."""

    @model_validator(mode="after")
    def _encoder_is_trained(self) -> MlmSettings:
        if self.mask_token is not None and self.model.encoder is not None and self.model.encoder.mask_token:
            raise ValueError("give mask_token or model.encoder.mask_token, not both")
        if self.model.frozen_encoder:
            raise ValueError("mlm trains only the encoder: model.frozen_encoder must be false")
        return self


def run(settings: MlmSettings, run: Run) -> None:
    """Train the encoder of a reader; its cross-attention keeps its initial weights."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    model.model.requires_grad_(False)
    encoder = model.config.encoder_config
    added = encoder.vocab_size > model.config.vocab_size
    mask = model.config.vocab_size if added else mask_id(settings.mask_token, tokenizer)
    if settings.head:
        model.prediction_head = PredictionHead(encoder.hidden_size, encoder.rms_norm_eps, settings.loop.seed)
    corpus = open_corpus(settings.data, tokenizer)
    seed = settings.loop.seed
    training, test = train_and_test(corpus, settings.data, settings.loop, tokenizer, length=settings.tokens)

    def example(position: int) -> Example:
        return masked(training[position], settings, mask, np.random.default_rng([seed, 0, position]))

    validation = [
        masked(sequence, settings, mask, np.random.default_rng([seed, 1, number]))
        for number, sequence in enumerate(test)
    ]
    fingerprint = {"data.sources": corpus.fingerprint()}
    train(settings, run, model, example, validation, fingerprint, masked_token_loss)


def masked(sequence: tuple[list[int], str], settings: MlmSettings, mask: int, random: np.random.Generator) -> Example:
    """A sequence with some of its tokens, at least one, replaced by `mask` and used as labels."""
    ids, origin = sequence
    masked_ids, labels = list(ids), [IGNORE] * len(ids)
    count = max(1, round(settings.masked * len(ids)))
    if settings.masking == "bernoulli":
        count = max(1, int(random.binomial(len(ids), settings.masked)))
    for place in random.choice(len(ids), count, replace=False):
        masked_ids[place], labels[place] = mask, ids[place]
    return Example(masked_ids, labels, [masked_ids], origin)


def masked_token_loss(model: CepeModel, batch: Batch) -> Losses:
    """Summed cross-entropy of the masked tokens."""
    states = encode(model, batch).phi  # (B, L, E)
    labels = batch.labels[:, : states.shape[1]]  # (B, L), without the padding of decoder rows
    labelled = labels != IGNORE
    output = model.encoder.embed_tokens or model.lm_head
    head = getattr(model, "prediction_head", None)
    hidden = states[labelled] if head is None else head(states[labelled])
    return {"loss": cross_entropy(hidden, output.weight, labels[labelled])}


def mask_id(token: str | None, tokenizer: Tokenizer) -> int:
    """The id of `token`, or else of the tokenizer's mask, unknown or padding token.

    Raises:
        ConfigError: `token` is not in the vocabulary, or it is None and the tokenizer has none of the three.
    """
    if token is not None:
        if (token_id := tokenizer.backend.token_to_id(token)) is None:
            raise ConfigError(f"mask_token: {token!r} is not in the decoder's vocabulary")
        return token_id
    for name in ("mask_token", "unk_token", "pad_token"):
        if (token_id := tokenizer.special_id(name)) is not None:
            return token_id
    raise ConfigError("set mask_token: the decoder's tokenizer has no mask, unknown or padding token")
