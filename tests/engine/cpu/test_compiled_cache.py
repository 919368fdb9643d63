"""A reader is compiled once and kept until its model changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ragx.cepe.model import CepeModel
from ragx.config import EncodingOptions, ModelOptions
from ragx.engine.cpu.cache import compiled
from ragx.engine.cpu.model import CpuModel
from ragx.engine.open import choose_backend, open_model
from ragx.errors import ConfigError
from tests.helpers.tiny import save_decoder, save_tiny_reader


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps compiled readers out of the user's cache."""
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def decoder(tmp_path: Path, tiny_decoder: Path) -> Path:
    """A decoder of a size that can be compiled."""
    folder = Path(shutil.copytree(tiny_decoder, tmp_path / "decoder"))
    save_decoder(folder, vocab_size=340, hidden_size=64, head_dim=16)
    return folder


@pytest.fixture
def reader(tmp_path: Path, decoder: Path) -> Path:
    """A reader whose decoder lies in another folder."""
    return save_tiny_reader(tmp_path / "reader", decoder)


def test_the_compiled_reader_of_a_deleted_model_is_removed(reader: Path, decoder: Path, home: Path) -> None:
    compiled(str(reader))
    shutil.rmtree(reader)
    compiled(str(decoder))
    assert len(list((home / "compiled").iterdir())) == 1


def test_a_reader_is_compiled_once(reader: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = compiled(str(reader))
    first = (folder / "weights.bin").stat()
    assert compiled(str(reader)) == folder
    assert (folder / "weights.bin").stat() == first
    assert capfd.readouterr().err.count("compiling") == 1


def test_a_changed_decoder_is_compiled_anew(reader: Path, tmp_path: Path) -> None:
    folder = compiled(str(reader))
    first = (folder / "weights.bin").stat().st_mtime_ns
    (tmp_path / "decoder" / "generation_config.json").write_text("{}")
    assert (compiled(str(reader)) / "weights.bin").stat().st_mtime_ns != first


@pytest.mark.parametrize("name", ["weights.bin", "step.onnx", "embeddings.npy", "settings.json"])
def test_a_damaged_file_is_compiled_anew(reader: Path, name: str) -> None:
    folder = compiled(str(reader))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert (compiled(str(reader)) / name).read_bytes() == whole


def test_a_compiled_reader_opens_without_torch(reader: Path) -> None:
    folder = compiled(str(reader))
    code = """
import sys
from pathlib import Path
from ragx.engine.cpu.model import CpuModel
from ragx.util.tokenization import Tokenizer
folder = Path(sys.argv[1])
model, tokenizer = CpuModel(folder), Tokenizer.open(folder)
sequence = model.sequence(model.encode_passages(tokenizer.plain_ids(["snow reflects light"])), 9)
model.prefill(sequence, tokenizer.chat_ids("why")[:5], is_last=True)
print(sorted({"torch", "transformers", "scipy", "pandas", "sklearn", "onnx"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_cache_that_cannot_be_written_leaves_the_model_to_torch(
    reader: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file")
    model, _ = open_model(EncodingOptions(model=str(reader), device="cpu"))
    assert isinstance(model, CepeModel)
    assert "runs uncompiled" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "float32"}, "dtype"),
        ({"bits": 8}, "bits"),
        ({"attention_strategy": "latent"}, "attention_strategy"),
        ({"device": "cuda:0"}, "device"),
    ],
)
def test_what_only_torch_can_do_is_left_to_torch(reader: Path, options: dict[str, Any], reason: str) -> None:
    assert choose_backend(ModelOptions(model=str(reader), **options))[0] == "torch"
    with pytest.raises(ConfigError, match=reason):
        choose_backend(ModelOptions(model=str(reader), backend="cpu", **options))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "gemma"},
        {"hidden_act": "gelu"},
        {"sliding_window": 64},
        {"head_dim": 8},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    ],
)
def test_a_model_that_cannot_be_compiled_is_left_to_torch(decoder: Path, changes: dict[str, Any]) -> None:
    options = EncodingOptions(model=str(decoder), device="cpu")
    assert choose_backend(options)[0] == "cpu"
    config = json.loads((decoder / "config.json").read_text()) | {"rope_parameters": None} | changes
    (decoder / "config.json").write_text(json.dumps(config))
    assert choose_backend(options)[0] == "torch"


def test_a_plain_decoder_is_compiled_without_an_encoder(decoder: Path) -> None:
    folder = compiled(str(decoder))
    assert not CpuModel(folder).is_trained
    assert not (folder / "encoder.onnx").exists()
