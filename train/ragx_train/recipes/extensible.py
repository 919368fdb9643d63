"""Extensible Embedding: one embedding for every k tokens of the text before (2402.11577).

A sequence is divided into chunks. The embedder reads all but the last; the decoder predicts every token from the
embeddings of the chunks before its own and the tokens of its own (`engine/two_stream.py`). k is drawn for each example,
so that one embedder serves several.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ragx.cepe import load
from ragx.cepe.model import CepeModel
from ragx.errors import ConfigError
from ragx.extensible.embedder import EmbedderSettings, ExtensibleEmbedder
from ragx.extensible.saving import load_embedder, save_embedder
from ragx.models import resolve
from ragx.util.tokenization import load_tokenizer
from ragx_train.data.documents import open_corpus
from ragx_train.data.example import Example, chunks, next_tokens
from ragx_train.data.sequences import Sequence, train_and_test
from ragx_train.engine.loop import Run, train
from ragx_train.engine.model import reader_folder
from ragx_train.engine.two_stream import two_stream_loss
from ragx_train.self_attention import BLOCK_ATTENTION
from ragx_train.settings import DecoderSettings, DocumentSettings, LoopSettings, TrainingSettings


class ExtensibleSettings(TrainingSettings):
    """`ragx train extensible`."""

    embedder: EmbedderSettings = EmbedderSettings()
    data: DocumentSettings
    chunks: int = Field(default=8, ge=2)
    """Chunks in a sequence."""


def run(settings: ExtensibleSettings, run: Run) -> None:
    """Train an embedder whose embeddings the frozen decoder reads in place of the text before its own."""
    embedder, loop = settings.embedder, settings.loop
    tokenizer = load_tokenizer(resolve(settings.model.decoder, "decoder"))
    corpus = open_corpus(settings.data, tokenizer)
    length = settings.chunks * embedder.chunk
    training, test = train_and_test(corpus, settings.data, loop, tokenizer, length=length)
    model = embedder_to_train(settings.model, embedder, loop, training[0][0])

    def example(position: int) -> Example:
        random = np.random.default_rng([loop.seed, position])
        return two_stream_example(training[position], embedder.chunk, int(random.choice(embedder.ratios)))

    validation = {
        f"k{ratio}": [two_stream_example(sequence, embedder.chunk, ratio) for sequence in test]
        for ratio in embedder.ratios
    }
    fingerprint = {"data.sources": corpus.fingerprint()}
    train(settings, run, model, example, validation, fingerprint, two_stream_loss, save_embedder)


def two_stream_example(sequence: Sequence, chunk: int, ratio: int) -> Example:
    """A sequence of whole chunks; its tokens are numbered by their chunk, from 1."""
    ids, origin = sequence
    segments = [1 + place // chunk for place in range(len(ids))]
    return Example(ids, next_tokens(ids), chunks(ids[:-chunk], chunk), origin, segments=segments, ratio=ratio)


def embedder_to_train(
    settings: DecoderSettings, embedder: EmbedderSettings, loop: LoopSettings, sample: list[int]
) -> CepeModel:
    """The frozen decoder in `loop.precision`, and its embedder in fp32 and training mode, on the CPU.

    A fresh one starts from the decoder's first layers, with states as large as embeddings of the tokens in `sample`.

    Raises:
        ConfigError: `settings.init_from` is no embedder, or one with other settings.
        ModelError: a model is missing or damaged, or the embedder does not fit the decoder.
    """
    decoder = resolve(settings.decoder, "decoder")
    dtype = torch.bfloat16 if loop.precision == "bf16" else torch.float32
    model = load(str(decoder), dtype=dtype, device="cpu", plain=True).requires_grad_(False)
    if settings.init_from is None:
        model.extensible = ExtensibleEmbedder(embedder, model.config)
        model.extensible.start_from(model, sample)
    else:
        model.extensible = load_embedder(reader_folder(settings.init_from), decoder, model, dtype=torch.float32)
        if model.extensible.settings != embedder:
            raise ConfigError(f"model.init_from: embedder is {model.extensible.settings!r} in {settings.init_from}")
    if loop.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    for config in (model.config, model.extensible.stack.config):
        config._attn_implementation = BLOCK_ATTENTION
    model.train()
    return model
