"""The example that the README points to runs as it is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "apps" / "examples"


def test_the_chain_answers_cites_and_reads_what_is_bound() -> None:
    done = subprocess.run([sys.executable, EXAMPLES / "langchain_chain.py"], capture_output=True, text=True, check=True)
    answer, *rest = done.stdout.splitlines()
    assert "90 percent" in answer
    assert "[1] Snow: Fresh snow reflects up to 90 percent of the sunlight that reaches it." in rest
    assert "sunlight" in rest[-1]
