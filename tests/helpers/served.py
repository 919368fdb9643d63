"""A server in a thread of the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI
from ragx_apps.server.app import create_app
from ragx_apps.server.asking import Asking
from ragx_apps.server.metrics import Metrics

from ragx.rag import RAG

MODEL = "tiny"
QUESTION = "How much sunlight does fresh snow reflect?"
LONG = {"model": MODEL, "max_tokens": 7000, "messages": [{"role": "user", "content": QUESTION}]}
"""A request whose answer takes longer than any test."""


@dataclass
class Server:
    url: str
    app: FastAPI
    asking: Asking

    def is_idle(self, within: float = 1.0) -> bool:
        """Whether nothing is decoded, waits or is admitted any more, at the latest after some seconds."""
        decoder = self.asking.decoder
        return eventually(lambda: not (decoder.running or decoder.waiting or self.asking.admitted), within)


def eventually(holds: Callable[[], bool], within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def serving(rag: RAG, *, token: str | None = None, host: str = "127.0.0.1", **limits: Any) -> Iterator[Server]:
    asking = Asking(rag, Metrics(), **limits)
    app = create_app(asking, MODEL, token=token, host=host)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert eventually(lambda: server.started, 30)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"http://127.0.0.1:{port}", app, asking)
    finally:
        server.should_exit = True
        thread.join()
        for reader in rag.readers.values():
            reader.batch = None
