"""Tiny random decoders of each supported family, and readers around them."""

from __future__ import annotations

import copy
import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ragx.cepe.added_weights import save_reader
from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.config import EncodingOptions
from ragx.reader.loading import open_reader
from ragx.retrieval.rerankers.late import Projection, save_projection
from ragx.util.tokenization import load_tokenizer

VOCABULARY = 200
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def save_decoder(folder: Path, family: str = "llama", **changes: object) -> PreTrainedModel:
    """A random decoder of `family`, saved to `folder` and returned in eval mode."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms start at ones, biases at zeros: make every weight matter
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return model


def with_config(model: PreTrainedModel, **changes: object) -> Any:
    """The same weights under a changed config."""
    changed = copy.copy(model)
    changed.config = copy.deepcopy(model.config)
    changed.config.update(changes)
    return changed


def activate(model: PreTrainedModel, std: float = 1.0, seed: int = 0) -> Any:
    """Stand in for training: random output projections of the cross-attention, which start at zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.cross_attn.o_proj.weight.normal_(std=std)
    return model


def save_tiny_reader(folder: Path, decoder: Path) -> Path:
    """A reader around `decoder` whose cross-attention adds something."""
    reader = fresh(decoder, Placement(torch.float32, "cpu"), output_gain=0.5)
    save_reader(reader, folder, decoder=str(decoder))
    return folder


def save_projection_of(folder: Path) -> None:
    """Beside the weights of a reader, a projection for late interaction that compares its encodings as they are."""
    reader = open_reader(EncodingOptions(model=str(folder), device="cpu", backend="torch", cache_size=0))
    zeros, eye = np.zeros(reader.model.encoder_width), np.eye(reader.model.encoder_width)
    save_projection(folder, Projection(zeros, eye, zeros, scale=1.0, order=0.0), reader)


def save_reciting_decoder(source: Path, folder: Path, sentence: str, *, ends: bool) -> None:
    """A decoder that says `sentence`, whatever it reads, and then ends or, without `ends`, goes on.

    Its layers add nothing, so that each token is followed by the one that its own embedding points to. What it says
    without end repeats itself too rarely to be noticed as a loop.
    """
    shutil.copytree(source, folder, dirs_exist_ok=True)
    tokenizer = load_tokenizer(source)
    said = tokenizer.plain_ids([sentence])[0]
    if ends:
        model = AutoModelForCausalLM.from_pretrained(source)
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, hidden_size=96, head_dim=8))
        more = "ĉ" + string.ascii_uppercase + string.ascii_lowercase + string.digits  # ĉ: a tab
        said += [tokenizer.backend.token_to_id(letter) for letter in more]
    tokens = [*tokenizer.plain_ids(["\n"])[0], *said]  # the prompt ends with a line break
    directions = torch.eye(model.config.hidden_size)
    assert len({*tokens}) == len(tokens) <= len(directions)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        following = [*said, tokenizer.eos_token_id if ends else said[0]]
        for direction, token, next_token in zip(directions, tokens, following, strict=False):
            model.model.embed_tokens.weight[token] = direction
            model.lm_head.weight[next_token] += direction * 10
    model.save_pretrained(folder)
