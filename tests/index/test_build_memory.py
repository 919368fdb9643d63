"""The memory of a build, or an update, does not grow with the corpus. `make memory` uses a million passages."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers import ROOT

SMALL = ["--shard-size", "2500", "--dimension", "32", "--heap", "15000000"]


def figures(passages: int, *options: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.helpers.build_memory", "--passages", str(passages), *SMALL, *options]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    of_run: dict[str, float] = json.loads(run.stdout)
    return of_run


def test_a_corpus_four_times_larger_takes_no_more_memory() -> None:
    """Its texts are 40 MB larger, and its words as Python objects 300 MB."""
    small, large = figures(20_000), figures(80_000)
    assert large["added_mb"] < small["added_mb"] + 12
    more_mapped = large["mapped_mb"] - small["mapped_mb"]
    assert large["update_added_mb"] < small["update_added_mb"] + more_mapped + 12
    assert small["update_embedded"] == large["update_embedded"] == 10


def test_an_update_keeps_new_passages_on_disk() -> None:
    small, large = (figures(number, "--built", "100")["update_added_mb"] for number in (20_000, 80_000))
    assert large < small + 16
