"""Progress is a line every few seconds if stderr is not a terminal."""

from __future__ import annotations

import re
import subprocess
import sys

SLOW = """
import time
from ragx.util import progress
progress.SECONDS_PER_LINE = 0.2
with progress.progress(total=30, desc="embedding", unit=" passages") as bar:
    for _ in range(30):
        time.sleep(0.05)
        bar.update(1)
"""


def test_a_log_gets_whole_lines() -> None:
    run = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    lines = run.stderr.splitlines()
    assert lines
    assert "\r" not in run.stderr
    assert all(re.match(r"embedding: \d+ of 30 passages", line) for line in lines)
    assert lines[-1].startswith("embedding: 30 of 30")


def test_what_takes_no_time_prints_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SLOW.replace("0.2", "60.0")], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
