"""CEPE: the first half of a sequence goes to the encoder in chunks, the second to the decoder (paper 2.3, A.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ragx_train.data.documents import Corpus, open_corpus
from ragx_train.data.example import Example
from ragx_train.data.masking import MaskingSettings
from ragx_train.data.sequences import train_and_test
from ragx_train.data.streams import continuation, masked
from ragx_train.engine.loop import Run, train
from ragx_train.engine.model import reader_to_train
from ragx_train.settings import DocumentSettings, RecipeSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


class CepeSettings(RecipeSettings):
    """`ragx train cepe`."""

    data: DocumentSettings
    encoder_tokens: int = Field(default=4096, ge=1)
    """Tokens of the first part of a sequence, for the encoder (m in the paper)."""
    decoder_tokens: int = Field(default=4096, ge=2)
    """Tokens of the second part, for the decoder (n in the paper)."""
    chunk: int = Field(default=256, ge=1)
    """Tokens in a passage of the encoder."""
    masking: MaskingSettings = MaskingSettings()


def run(settings: CepeSettings, run: Run) -> None:
    """Train a reader to continue a text whose beginning the encoder reads."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    corpus = open_corpus(settings.data, tokenizer)
    example, validation = examples(settings, corpus, tokenizer)
    train(settings, run, model, example, validation, {"data.sources": corpus.fingerprint()})


def examples(
    settings: CepeSettings, corpus: Corpus, tokenizer: Tokenizer
) -> tuple[Callable[[int], Example], list[Example]]:
    """A function from a position to an example with masked passages, and unmasked examples for validation."""
    length = settings.encoder_tokens + settings.decoder_tokens
    training, test = train_and_test(corpus, settings.data, settings.loop, tokenizer, length=length)

    def halves(sequence: tuple[list[int], str]) -> Example:
        return continuation(sequence, settings.chunk, settings.encoder_tokens)

    def example(position: int) -> Example:
        random = np.random.default_rng([settings.loop.seed, position])
        return masked(halves(training[position]), settings.masking, random)

    return example, list(map(halves, test))
