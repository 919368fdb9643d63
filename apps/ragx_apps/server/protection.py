"""Who may ask, and how much they may send: checked before a request is read."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragx_apps.server.errors import ApiError

MAX_BODY = 1 << 20
"""Bytes."""
TOO_LARGE = f"a request may hold {MAX_BODY:,} bytes"
OPEN = {"/healthz"}
"""Paths that need no token."""


class Protection:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self.expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401 or 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("authorization", "").encode("latin-1")
        if self.expected is not None and scope["path"] not in OPEN and not hmac.compare_digest(given, self.expected):
            error = ApiError(
                401,
                "a bearer token is needed, as in `Authorization: Bearer …` (OpenAI's clients: api_key)",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await error.response()(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > MAX_BODY:
            await ApiError(413, TOO_LARGE).response()(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY:  # sent in chunks, without a length
                raise HTTPException(413, TOO_LARGE)  # the one exception that FastAPI lets through here
            return message

        await self.app(scope, counted, send)
