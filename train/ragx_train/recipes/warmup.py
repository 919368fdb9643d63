"""Warm-up: learn to copy from the encoder through cross-attention (paper 2.3, A.2).

Encoder and decoder read the same 256 tokens, the encoder as 4 chunks of 64. To predict the next token, find the current
one in the chunks and take its successor.
"""

from __future__ import annotations

from pydantic import Field

from ragx_train.data.documents import open_corpus
from ragx_train.data.example import Example
from ragx_train.data.sequences import train_and_test
from ragx_train.data.streams import reconstruction
from ragx_train.engine.loop import Run, train
from ragx_train.engine.model import reader_to_train
from ragx_train.settings import DocumentSettings, RecipeSettings


class WarmupSettings(RecipeSettings):
    """`ragx train warmup`."""

    data: DocumentSettings
    tokens: int = Field(default=256, ge=2)
    """Tokens in a sequence."""
    chunk: int = Field(default=64, ge=1)
    """Tokens in a passage of the encoder."""


def run(settings: WarmupSettings, run: Run) -> None:
    """Train a reader to copy."""
    model, tokenizer = reader_to_train(settings.model, settings.loop)
    corpus = open_corpus(settings.data, tokenizer)
    training, test = train_and_test(corpus, settings.data, settings.loop, tokenizer, length=settings.tokens)

    def copying(sequence: tuple[list[int], str]) -> Example:
        return reconstruction(sequence, settings.chunk)

    fingerprint = {"data.sources": corpus.fingerprint()}
    train(settings, run, model, lambda position: copying(training[position]), list(map(copying, test)), fingerprint)
