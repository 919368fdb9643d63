"""Which layers the encoder and cross-attention of `ragx train reader` are made of."""

from __future__ import annotations

import numpy as np
import torch

from ragx.models import read_config, resolve
from ragx.util.terminal import notice
from ragx.util.tokenization import load_tokenizer
from ragx_train.data.documents import open_corpus
from ragx_train.data.sequences import Sequences
from ragx_train.engine.heads import choose_layers, measure_heads
from ragx_train.engine.model import reader_folder
from ragx_train.recipes.reader.options import ReaderData, ReaderModel
from ragx_train.settings import Mixture

TEXTS, TEXT_TOKENS = 12, 128
"""Texts on which a decoder's heads are measured."""


def choose_model(settings: ReaderModel, data: ReaderData, seed: int) -> ReaderModel:
    """The settings with all layers named: those of `init_from`, or by the decoder's heads.

    Raises:
        ConfigError: `settings.init_from` is not a reader.
        ModelError: a model is missing or damaged.
    """
    if settings.init_from is not None:
        config = read_config(reader_folder(settings.init_from))
        encoder = list(range(config["encoder_config"]["num_hidden_layers"]))  # only their number matters
        return _with_layers(settings, encoder, list(config["cross_attention_layers"]))
    if settings.encoder_layers and settings.cross_attention_layers:
        return settings
    folder = resolve(settings.decoder, "decoder")
    tokenizer = load_tokenizer(folder)
    texts = data.known_texts().model_copy(update={"mix": Mixture(filter=0, cat=1)})
    sequences = Sequences(open_corpus(texts, tokenizer), texts, tokenizer, length=TEXT_TOKENS, split="train", seed=seed)
    ids = torch.tensor([sequences[place][0] for place in range(min(TEXTS, sequences.size))])
    heads = measure_heads(folder, ids)
    encoder, cross = choose_layers(heads, encoder=settings.encoder_size, cross_attention=settings.cross_attention_size)
    chosen = _with_layers(settings, settings.encoder_layers or encoder, settings.cross_attention_layers or cross)
    strongest = int(np.argmax([each.induction for each in heads]))
    notice(
        f"encoder from layers {chosen.encoder_layers}, cross-attention in layers {chosen.cross_attention_layers}"
        f" (strongest induction head: {heads[strongest].induction:.2f} in layer {strongest})"
    )
    return chosen


def _with_layers(settings: ReaderModel, encoder: list[int], cross: list[int]) -> ReaderModel:
    return settings.model_copy(update={"encoder_layers": encoder, "cross_attention_layers": cross})
