"""A build's memory does not grow with the corpus. `make memory` uses a million passages."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers import ROOT

SMALL = ["--shard-size", "2500", "--dimension", "32", "--heap", "15000000"]


def added_megabytes(passages: int) -> float:
    command = [sys.executable, "-m", "tests.helpers.build_memory", "--passages", str(passages), *SMALL]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(json.loads(run.stdout)["added_mb"])


def test_a_corpus_four_times_larger_takes_no_more_memory() -> None:
    """Its texts are 40 MB larger, and its words as Python objects 300 MB."""
    assert added_megabytes(80_000) < added_megabytes(20_000) + 12
