"""A tiny reader whose cross-attention adds something in some of its layers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from ragx.cepe.added_weights import save_reader
from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from tests.helpers.tiny import save_decoder


@pytest.fixture(scope="session")
def save_vllm_reader(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Save a reader around a decoder of a family, with a tokenizer and heads as wide as vLLM's CPU kernels need."""

    def save(family: str) -> Path:
        decoder, folder = (tmp_path_factory.mktemp(f"{kind}-{family}") for kind in ("decoder", "reader"))
        shutil.copytree(tiny_decoder, decoder, dirs_exist_ok=True)
        sizes = {"hidden_size": 128, "head_dim": 32, "max_position_embeddings": 512}
        sizes |= {"vocab_size": AutoConfig.from_pretrained(tiny_decoder).vocab_size}
        save_decoder(decoder, family, **sizes, **({"sliding_window": None} if family == "mistral" else {}))
        reader = fresh(decoder, Placement(torch.float32, "cpu"), cross_attention_layers=[0, 2])
        with torch.no_grad():
            for layer in (0, 2):
                reader.model.layers[layer].cross_attn.o_proj.weight.normal_(std=0.2)
        save_reader(reader, folder, decoder=str(decoder))
        return folder

    return save
