"""A server in a thread of the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI
from ragx_apps.server.app import create_app
from ragx_apps.server.metrics import Metrics
from ragx_apps.server.service import Service

from ragx.rag import RAG

MODEL = "tiny"
QUESTION = "How much sunlight does fresh snow reflect?"
LONG = {"model": MODEL, "max_tokens": 7000, "messages": [{"role": "user", "content": QUESTION}]}
"""A request whose answer takes longer than any test."""


@dataclass
class Server:
    url: str
    app: FastAPI
    service: Service

    def is_idle(self, within: float = 30.0) -> bool:
        """Whether the queue becomes empty within some seconds."""
        return eventually(lambda: not self.service.queue.admitted, within)


def eventually(holds: Callable[[], bool], within: float = 30.0) -> bool:
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def serving(
    rag: RAG, *, token: str | None = None, host: str = "127.0.0.1", origins: Sequence[str] = (), **limits: Any
) -> Iterator[Server]:
    service = Service(rag, Metrics(), **limits)
    app = create_app(service, MODEL, token=token, host=host, origins=origins)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert eventually(lambda: server.started, 30)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"http://127.0.0.1:{port}", app, service)
    finally:
        server.should_exit = True
        thread.join()
        for reader in rag.readers.values():
            reader.batch = None
