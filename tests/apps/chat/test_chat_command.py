"""`ragx chat` as a user types it: its address, its end, and what is said of a mistake."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.page import build_page
from ragx_apps.chat.serving import launch
from ragx_apps.queue import QuestionQueue

from ragx.errors import RagxError
from ragx.rag import RAG
from tests.helpers.chat_page import SENTENCE

RunCommand = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_answers_at_its_address_until_it_is_told_to_end(
    chat_index: Path, chat_rag: RAG, tmp_path: Path, ending: signal.Signals, code: int
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = str(chat_rag.readers["cepe"].model.name_or_path)
    options = ["--index", str(chat_index), "--model", model, "--device", "cpu", "--port", str(port), "--offline"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ragx", "chat", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    try:
        said = []
        while "the page is at" not in (line := process.stderr.readline()):
            assert line, said
            said.append(line)
        address = f"http://127.0.0.1:{port}/"
        assert line == f"the page is at {address}; Ctrl-C stops\n"
        if ending is signal.SIGTERM:
            answered = Client(address, verbose=False).predict("Is snow bright?", max_new_tokens=8, api_name="/ask")
            assert SENTENCE.strip().startswith(answered["answer"])
        else:
            assert httpx.get(address).status_code == 200
        assert [*tmp_path.glob("ragx-chat-*")]
        process.send_signal(ending)
        assert process.wait(timeout=30) == code
        assert "Traceback" not in process.stderr.read()
        assert [*tmp_path.glob("ragx-chat-*")] == [], "visitors' files are deleted"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "other machines can reach 0.0.0.0"),  # noqa: S104
        (["--auth", "ada"], "--auth must be USER:PASSWORD"),
        (["--index", "nowhere"], "no index at nowhere"),
        (["--model", "no-such-model", "--offline"], ""),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, run_command: RunCommand, options: list[str], message: str
) -> None:
    for name in ("RAGX_OFFLINE", "HF_HUB_OFFLINE"):  # put back after --offline
        monkeypatch.setenv(name, os.environ.get(name, ""))
    code, _, err = run_command("chat", *options)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"ragx: {message}")


def test_a_missing_package_is_named_by_its_extra(monkeypatch: pytest.MonkeyPatch, run_command: RunCommand) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = run_command("chat")
    assert code == 2
    assert "pip install 'ragx[chat]'" in err


def test_a_port_that_is_taken_is_one_line(
    chat_rag: RAG, queue: QuestionQueue, chat_index: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RagxError, match=f"cannot listen on 127.0.0.1:{port}: choose another --port"):
            launch(build_page(Indexes(chat_rag, chat_index), queue, tmp_path), "127.0.0.1", port, None)
