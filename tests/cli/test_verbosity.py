"""`ragx --quiet` and `ragx --verbose`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ragx.util.progress import progress
from ragx.util.terminal import set_quiet
from tests.helpers.command import QUESTION, Run, RunCommand

BM25 = ("--method", "bm25", "--rerank", "none")


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_commands_print_results_alone(
    ragx: RunCommand, index: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS"):  # restored after the test
        monkeypatch.setenv(name, "")
    search = ("search", "--index", index, *BM25)
    assert ragx(*search, "zebra").err == "no passage matches\n"
    assert ragx(option, *search, "zebra") == Run(0, "", "")
    assert ragx(option, *search, "snow") == ragx(*search, "snow")
    assert ragx(*search, "zebra").err == "no passage matches\n"


def test_quiet_commands_report_errors(ragx: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
    assert ragx("-q", "search", " ") == Run(2, "", "ragx: the question is empty\n")


def test_progress_is_not_shown_when_quiet() -> None:
    try:
        set_quiet(True)
        assert progress(range(3)).disable
    finally:
        set_quiet(False)
    assert not progress(range(3)).disable


def test_quiet_and_verbose_exclude_each_other(ragx: RunCommand) -> None:
    run = ragx("--quiet", "--verbose", "index", "list")
    assert (run.code, run.err) == (2, "ragx: give either --quiet or --verbose\n")


@pytest.mark.slow
def test_verbose_commands_log_the_parts_of_an_answer_with_times(tiny_decoder: Path) -> None:
    ask = ["ask", QUESTION, "--no-index", "--model", str(tiny_decoder), "--max-new-tokens", "2"]
    command = [sys.executable, "-m", "ragx", "--verbose", *ask]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    lines = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ragx: (\w+): [\d.]+ s", done.stderr, re.MULTILINE)
    assert {"ask", "prefill", "decode"} <= set(lines)
    assert "ragx: " not in done.stdout
