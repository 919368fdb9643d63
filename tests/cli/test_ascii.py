"""Answers on a terminal or pipe that takes ASCII alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="locales are POSIX")
@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}], ids=["C locale", "encoding"])
def test_what_ascii_lacks_is_printed_as_a_question_mark(index: Path, variables: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LANG"}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", **variables}
    run = subprocess.run(
        [sys.executable, "-m", "ragx", "search", "snow", "--method", "bm25", "--rerank", "none", "--index", str(index)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.isascii()
    assert "?" in run.stdout
