"""A build's memory does not grow with the corpus. `make memory` tries a million passages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SMALL = ["--shard-size", "2500", "--dimension", "32", "--block", "50000"]


def added(passages: int) -> float:
    """Megabytes."""
    script = Path(__file__).with_name("build_memory.py")
    run = subprocess.run(
        [sys.executable, script, "--passages", str(passages), *SMALL], capture_output=True, text=True, check=True
    )
    return float(json.loads(run.stdout)["added_mb"])


def test_a_corpus_eight_times_larger_takes_no_more_memory() -> None:
    """Its texts alone are 14 MB more, its words and their ids as Python objects 100 MB."""
    assert added(20_000) < added(2_500) + 12
