"""`ragx chat` as a process: its address and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
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


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_answers_at_its_address_until_a_signal_ends_it(
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
        lines = []
        while "the page is at" not in (line := process.stderr.readline()):
            assert line, lines
            lines.append(line)
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


def test_a_port_that_is_taken_is_one_line(
    chat_rag: RAG, queue: QuestionQueue, chat_index: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RagxError, match="choose another --port"):
            launch(build_page(Indexes(chat_rag, chat_index, "tiny"), queue, tmp_path), "127.0.0.1", port, None)
