"""A server in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from ragx_apps.server.app import create_app
from ragx_apps.server.metrics import Metrics
from ragx_apps.server.service import Service
from starlette.types import ASGIApp

from ragx.rag import RAG
from tests.helpers.waiting import eventually

MODEL = "tiny"
QUESTION = "How much sunlight does fresh snow reflect?"
LONG = {
    "model": MODEL,
    "max_tokens": 7000,
    "messages": [{"role": "user", "content": QUESTION}],
    "ragx": {"stop_loops": False},
}
"""A request whose answer takes longer than any test."""


@dataclass
class Server:
    client: httpx.Client
    app: FastAPI
    service: Service

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def is_idle(self) -> bool:
        """Whether the queue becomes empty."""
        return eventually(lambda: not self.service.queue.admitted)


@contextmanager
def serving(
    rag: RAG, *, token: str | None = None, host: str = "127.0.0.1", origins: Sequence[str] = (), **limits: Any
) -> Iterator[Server]:
    service = Service(rag, Metrics(), **limits)
    app = create_app(service, MODEL, token=token, host=host, origins=origins)
    with listening(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Server(client, app, service)


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """The address of an application in a thread."""
    # uvicorn's own log configuration closes the handlers of other libraries, and with them what pytest captures
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
