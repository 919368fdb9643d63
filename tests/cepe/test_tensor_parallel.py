"""Two processes that share a decoder compute what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ragx import cepe
from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.errors import ConfigError, ModelError
from tests.helpers import ROOT
from tests.helpers.tensor_parallel import computed
from tests.helpers.tiny import save_decoder, save_tiny_reader


@pytest.mark.slow
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("qwen3", False)])
def test_two_processes_compute_what_one_does(family: str, tied: bool, tiny_decoder: Path, tmp_path: Path) -> None:
    decoder = Path(shutil.copytree(tiny_decoder, tmp_path / "decoder"))
    save_decoder(decoder, family, vocab_size=340, max_position_embeddings=512, tie_word_embeddings=tied)
    folder = save_tiny_reader(tmp_path / "reader", decoder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "--log-dir", tmp_path, "--redirects=1", "-m", "tests.helpers.tensor_parallel", folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    of_processes = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("stdout.log"))]
    model = cepe.load(str(folder), dtype="float32", device="cpu")
    expected = computed(model)
    assert len(of_processes) == 2
    for each in of_processes:
        assert each["logits"] == pytest.approx(expected["logits"], abs=1e-4)
        assert (each["generated"], each["answer"]) == (expected["generated"], expected["answer"])
        divided = [parameter.numel() for name, parameter in model.named_parameters() if _is_divided(name)]
        assert each["weights"] == sum(divided) // 2


def _is_divided(name: str) -> bool:
    is_of_layer = name.startswith("model.layers.") and "_proj" in name and "cross_attn" not in name
    return is_of_layer or name in ("model.embed_tokens.weight", "lm_head.weight")


def test_a_program_without_torchrun_is_told_to_use_it(tiny_decoder: Path) -> None:
    with pytest.raises(ConfigError, match="torchrun"):
        cepe.load(str(tiny_decoder), tensor_parallel=True)


def test_heads_are_shared_equally(tiny_decoder: Path) -> None:
    with pytest.raises(ModelError, match="3 processes cannot share 2 key/value heads"):
        fresh(tiny_decoder, Placement(torch.float32, "cpu", processes=3))


def test_a_quantized_decoder_is_not_divided(tiny_decoder: Path) -> None:
    with pytest.raises(ConfigError, match="4 or 8 bits"):
        cepe.load(str(tiny_decoder), tensor_parallel=True, bits=4)
