"""An OpenAI-compatible server that answers as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.helpers.served import listening

Script = list[str | float | dict[str, Any]]
"""Pieces of text, seconds of silence, and whole events."""
FINISHED: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@dataclass
class Api:
    """What the server is asked, and how it answers."""

    url: str = ""
    script: Script = field(default_factory=lambda: ["Fresh ", "snow.", FINISHED])
    refusals: list[Response] = field(default_factory=list)
    """Sent first, one a request."""
    models: Any = None
    """Entries of the list of models; None: there is no such list."""
    others: dict[str, Any] = field(default_factory=dict)
    """Answers of other paths."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    left: int = 0
    """Number of clients that have left before the end."""

    async def chat(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        if self.refusals:
            return self.refusals.pop(0)
        return StreamingResponse(self.events(), media_type="text/event-stream")

    async def events(self) -> AsyncIterator[str]:
        try:
            for step in self.script:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield f"data: {json.dumps(piece(step) if isinstance(step, str) else step)}\n\n"
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.left += 1
            raise

    async def other(self, request: Request) -> Response:
        path = request.url.path
        if path == "/v1/models" and self.models is not None:
            return JSONResponse({"object": "list", "data": self.models})
        found = self.others.get(path, refusal(404, "not found"))
        return found if isinstance(found, Response) else JSONResponse(found)


def piece(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def refusal(status: int, message: str, **fields: Any) -> Response:
    return JSONResponse({"error": {"message": message, **fields}}, status)


@contextmanager
def scripted_api() -> Iterator[Api]:
    api = Api()
    routes = [
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/{path:path}", api.other, methods=["GET", "POST"]),
    ]
    with listening(Starlette(routes=routes)) as url:
        api.url = f"{url}/v1"
        yield api
