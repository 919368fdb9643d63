"""Tiny random decoders of each supported family, made on the spot."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

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
