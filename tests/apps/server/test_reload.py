"""SIGHUP replaces the reader of a running server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.tiny import save_reciting_decoder

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "What of snow?"}]}
FIRST, SECOND = " fresh snow reflects", " dark soil absorbs"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")]


@pytest.fixture
def model(tiny_decoder: Path, tmp_path: Path) -> Path:
    """A folder whose model says `FIRST` without end; beside it, `second` says `SECOND`."""
    save_reciting_decoder(tiny_decoder, tmp_path / "model", FIRST, ends=False)
    save_reciting_decoder(tiny_decoder, tmp_path / "second", SECOND, ends=True)
    return tmp_path / "model"


@pytest.fixture
def process(notes_index: Path, model: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ragx", "serve", "--index", str(notes_index), "--model", str(model)]
    running = subprocess.Popen([*command, "--port", "0", "--method", "bm25"], stderr=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The next line on stderr that has these words."""
    assert process.stderr is not None
    lines = []
    while words not in (line := process.stderr.readline()):
        assert line, lines
        lines.append(line)
    return line


def put_in_place(folder: Path, model: Path) -> None:
    model.rename(model.with_name(f"{folder.name}-before"))
    folder.rename(model)


def test_a_reload_replaces_the_reader_between_answers(
    process: subprocess.Popen[str], model: Path, tmp_path: Path
) -> None:
    url = line_with(process, "listening on").split()[2].removesuffix("/v1;")

    def answer() -> str:
        done = httpx.post(f"{url}{CHAT}", json=QUESTION | {"model": str(model)}, timeout=60)
        return str(done.raise_for_status().json()["choices"][0]["message"]["content"])

    request = {**QUESTION, "model": str(model), "stream": True, "max_tokens": 300}
    with httpx.stream("POST", f"{url}{CHAT}", json=request, timeout=60) as response:
        received = response.iter_lines()
        next(received)
        put_in_place(tmp_path / "second", model)
        process.send_signal(signal.SIGHUP)
        pieces = [json.loads(line[6:]) for line in received if line.startswith("data: {")]
    text = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces if piece["choices"])
    assert len(text) > 300
    assert text.startswith(FIRST.strip())
    assert SECOND not in text
    line_with(process, f"{model} is reloaded")
    assert answer() == SECOND.strip()
    (tmp_path / "broken").mkdir()
    put_in_place(tmp_path / "broken", model)
    process.send_signal(signal.SIGHUP)
    assert "config.json" in line_with(process, "not reloaded")
    assert answer() == SECOND.strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
