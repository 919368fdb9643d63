"""`benchmarks.gpu`: a pack, and what a machine without downloads makes of it, at tiny scale on a CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from ragx_train.recipes.reader import ReaderSettings
from safetensors.torch import save_file

from benchmarks.gpu.pack import pack
from benchmarks.gpu.parts import join, split
from benchmarks.gpu.quants import restore, shrink
from ragx import cepe
from ragx.errors import ConfigError
from ragx.models import cache
from ragx.util.settings import load_settings
from tests.helpers import ROOT
from tests.helpers.tiny_runs import CONFIGS, write_documents, write_questions

DECODER = "tests/tiny"
ABSENT = ("bitsandbytes", "datasets", "faiss", "gguf", "lark", "matplotlib", "onnx", "onnxruntime", "pypdfium2")
ABSENT += ("sentence_transformers", "sentencex", "tantivy", "tensorboard", "typer")
TIMES = ("--checks=300", "--train=300", "--bench=300", "--loop.steps=8")
WITHOUT_PACKAGES = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(cls, name, path=None, target=None):
    return None if name.split(".")[0] in {ABSENT} else find(name, path, target)
PathFinder.find_spec = classmethod(find_spec)
"""


def tiny(folder: Path, decoder: str) -> ReaderSettings:
    write_documents(folder)
    write_questions(folder)
    given = [f"model.decoder={decoder}", f"data.texts.folder={folder}", f"data.questions.folder={folder}"]
    return load_settings(ReaderSettings, CONFIGS / "reader" / "tiny.yaml", given)


@pytest.mark.slow
def test_a_machine_with_few_packages_tests_trains_and_measures(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(folder: Path) -> tuple[str, str]:
        shutil.copytree(decoder, folder, dirs_exist_ok=True)
        return "a test", "decoder"

    cache.publish(cache.models() / "tests--tiny", DECODER, fill)
    parts = pack(tiny(tmp_path, DECODER), tmp_path / "pack", tokens=3000, answers=None, wheels=[], size=40_000)
    assert len(parts) > 2
    assert all(part.stat().st_size <= 40_000 for part in parts)

    site, out = tmp_path / "site", tmp_path / "out"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WITHOUT_PACKAGES)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "run", *parts, "--work", tmp_path / "work", "--out", out, *TIMES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(site), "RAGX_HOME": str(tmp_path / "elsewhere")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + (out / "log.txt").read_text()
    assert len(list(out.iterdir())) <= 8
    assert "failed" not in done.stdout
    assert done.stdout == (out / "report.md").read_text() or done.stdout.strip().endswith("|")
    for part in ("## checks", "## train", "## bench", "| gradients of cross-attention | relative error", "| latent |"):
        assert part in (out / "report.md").read_text()

    join([out], "reader", tmp_path / "reader")
    reader = cepe.load(str(tmp_path / "reader"), dtype="float32", device="cpu")
    assert reader.is_trained
    assert "learning_rate" in (tmp_path / "reader" / "README.md").read_text()


def test_a_pack_needs_a_decoder_with_a_name(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        pack(tiny(tmp_path, str(decoder)), tmp_path / "pack", tokens=9, answers=None, wheels=[], size=9)


def test_parts_are_joined_only_if_all_are_there_and_undamaged(tmp_path: Path) -> None:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    content = np.random.default_rng(0).bytes(5000)
    (tmp_path / "folder" / "sub" / "file").write_bytes(content)
    files = split(tmp_path / "folder", tmp_path / "out", "some", 2000)
    assert [file.name for file in files] == ["some.0", "some.1", "some.2", "some.json"]
    join([tmp_path / "out"], "some", tmp_path / "again")
    assert (tmp_path / "again" / "sub" / "file").read_bytes() == content
    for wrong, message in ((files[1:], "some.0 is missing"), (files[:3], "some.json is missing")):
        with pytest.raises(SystemExit, match=message):
            join(wrong, "some", tmp_path / "never")
    files[1].write_bytes(b"?" + files[1].read_bytes()[1:])
    with pytest.raises(SystemExit, match=r"some\.1 is damaged"):
        join(files, "some", tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_weights_are_restored_from_the_blocks_of_the_file_they_come_from(tmp_path: Path) -> None:
    """llama.cpp stores the rows of queries and keys in another order than transformers."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    tensors = {}
    kinds = (("attn_q", "self_attn.q_proj", "Q4_1"), ("ffn_up", "mlp.up_proj", "Q8_0"))
    for name, key, kind in kinds:
        blocks = gguf.quants.quantize(random.standard_normal((64, 32), np.float32), gguf.GGMLQuantizationType[kind])
        writer.add_tensor(f"blk.0.{name}.weight", blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
        rows = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        if kind == "Q4_1":  # 4 heads of 16 rows, whose halves alternate
            rows = rows.reshape(4, 8, 2, 32).transpose(0, 2, 1, 3).reshape(64, 32)
        tensors[f"model.layers.0.{key}.weight"] = torch.from_numpy(rows.copy()).bfloat16()
    tensors["model.norm.weight"] = torch.randn(32).bfloat16()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert shrink(tmp_path / "model.safetensors", tmp_path / "model.gguf", tmp_path / "blocks")
    restore(tmp_path / "blocks", tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    tensors["model.layers.0.mlp.up_proj.weight"] += 1
    tensors["model.layers.0.self_attn.q_proj.weight"] += 1
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert not shrink(tmp_path / "model.safetensors", tmp_path / "model.gguf", tmp_path / "blocks")
