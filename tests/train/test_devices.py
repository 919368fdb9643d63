from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ragx_train import record
from tiny_runs import run_recipe, tiny_settings, write_documents


def test_two_processes_learn_what_one_does(decoder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path)
    run_recipe("warmup", tmp_path / "one", tiny_settings("warmup", decoder, tmp_path, "loop.steps=4"))
    script = [str(Path(__file__).with_name("run_tiny.py")), str(decoder), str(tmp_path), str(tmp_path / "two")]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *script],
        check=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )
    one, two = (record.read(tmp_path / name) for name in ("one", "two"))
    assert [each.keys() for each in one] == [each.keys() for each in two]
    for name in ("loss", "validation_loss", "tokens"):
        expected = [each[name] for each in one if name in each]
        assert [each[name] for each in two if name in each] == pytest.approx(expected, rel=1e-5)
    assert (tmp_path / "two" / "reader" / "config.json").exists()
