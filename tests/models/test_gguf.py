"""A language model in a .gguf file is dequantized once, into a folder of safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragx import models
from ragx.errors import ModelError

WIDTH, HIDDEN, HEADS, KV_HEADS = 32, 64, 4, 2


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A random two-layer Llama with an untied output layer, and its tensors by GGUF name."""
    from gguf import GGUFWriter, TokenType
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ab", "ĊĊ"]
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["a b", "Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(2):
        kv = WIDTH // HEADS * KV_HEADS
        shapes |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": (WIDTH,),
                "ffn_norm": (WIDTH,),
                "attn_q": (WIDTH, WIDTH),
                "attn_k": (kv, WIDTH),
                "attn_v": (kv, WIDTH),
                "attn_output": (WIDTH, WIDTH),
                "ffn_gate": (HIDDEN, WIDTH),
                "ffn_up": (HIDDEN, WIDTH),
                "ffn_down": (WIDTH, HIDDEN),
            }.items()
        }
    random = np.random.default_rng(0)
    tensors = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, tensors


@pytest.fixture
def file(tiny_gguf: tuple[Path, dict[str, np.ndarray]], home: Path, tmp_path: Path) -> Path:
    """A copy of the file, and an empty cache."""
    target = tmp_path / "model" / "tiny.gguf"
    target.parent.mkdir()
    target.write_bytes(tiny_gguf[0].read_bytes())
    return target


def test_the_converted_folder_has_the_same_weights(
    file: Path, tiny_gguf: tuple[Path, dict[str, np.ndarray]], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.resolve(str(file), "decoder")
    (line,) = capfd.readouterr().err.splitlines()
    assert "dequantizing" in line
    assert folder.is_relative_to(home)
    assert file.is_file()
    weights = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).state_dict()
    for key, name in {
        "model.embed_tokens": "token_embd",
        "lm_head": "output",
        "model.layers.1.self_attn.v_proj": "blk.1.attn_v",
        "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
    }.items():
        assert torch.equal(weights[f"{key}.weight"], torch.from_numpy(tiny_gguf[1][name]).to(torch.bfloat16)), key
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("ab\n\n12<|im_end|>") == ["ab", "ĊĊ", "1", "2", "<|im_end|>"]
    before = (folder / "model.safetensors").stat()
    assert models.resolve(str(file), "decoder") == folder
    assert (folder / "model.safetensors").stat() == before


def test_a_folder_with_one_file_is_a_model(file: Path) -> None:
    assert (models.resolve(str(file.parent)) / "model.safetensors").is_file()


def test_a_folder_with_several_files_is_refused(file: Path) -> None:
    (file.parent / "other.gguf").write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match=r"2 \.gguf files"):
        models.resolve(str(file.parent))


@pytest.mark.parametrize("length", [0, 3, 500, 20_000])
def test_a_truncated_file_is_reported_in_one_line(file: Path, home: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ModelError, match="cannot be converted") as error:
        models.resolve(str(file), "decoder")
    assert "\n" not in str(error.value)
    assert not list((home / "models").iterdir())
