"""Two processes learn what one does, with replicated or sharded weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ragx_train.engine import log as record
from safetensors.torch import load_file

from tests.helpers import ROOT
from tests.helpers.tiny_runs import run_recipe, tiny_settings, write_documents

pytestmark = pytest.mark.slow


def two_processes(recipe: str, decoder: Path, folder: Path, *settings: str) -> None:
    script = ["-m", "tests.helpers.run_tiny", recipe, decoder, folder, folder / "two", *settings]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shard", ["false", "true"])
def test_two_processes_learn_what_one_does_and_resume(shard: str, decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    short = ["loop.steps=4", "loop.checkpoint_every=2"]
    run_recipe("warmup", one, tiny_settings("warmup", decoder, tmp_path, *short))
    two_processes("warmup", decoder, tmp_path, *short, f"loop.shard={shard}")
    shutil.rmtree(two / "checkpoints" / "step-00000004")
    two_processes("warmup", decoder, tmp_path, *short, f"loop.shard={shard}")
    assert [each.keys() for each in record.read(one)] == [each.keys() for each in record.read(two)]
    for name in ("loss", "validation_loss", "tokens", "gradient_norm"):
        expected = [each[name] for each in record.read(one) if name in each]
        assert [each[name] for each in record.read(two) if name in each] == pytest.approx(expected, rel=1e-4)
    for file in ("reader/model.safetensors", "checkpoints/step-00000004/optimizer.safetensors"):
        expected_weights, weights = load_file(one / file), load_file(two / file)
        assert weights.keys() == expected_weights.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, expected_weights[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("shard", ["false", "true"])
def test_a_process_may_have_no_passages(shard: str, decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    masked = ["chunk=32", "masking={chunk: 0.6, whole: 1}"]  # examples have one passage
    short = ["loop.steps=4", "loop.batch_size=2", "loop.micro_batch=1", *masked]
    run_recipe("cepe", tmp_path / "one", tiny_settings("cepe", decoder, tmp_path, *short))
    log = [each for each in record.read(tmp_path / "one") if "loss" in each]
    assert [each["encoder_tokens"] for each in log] == [64, 96, 128, 128], "of 2, 1, 1 and 0 examples"
    two_processes("cepe", decoder, tmp_path, *short, f"loop.shard={shard}")
    losses = [each["loss"] for each in record.read(tmp_path / "two") if "loss" in each]
    assert losses == pytest.approx([each["loss"] for each in log], rel=1e-4)
