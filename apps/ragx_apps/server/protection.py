"""Bearer token, Host header and request size: checked before a request is read."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragx.errors import ConfigError
from ragx_apps.server.errors import ApiError

MAX_BODY = 1 << 20
"""Bytes of a request."""
MAX_BODIES = {"/v1/embeddings": 8 << 20, "/v1/rerank": 8 << 20, "/v2/rerank": 8 << 20}
"""Paths that take more: the most texts of the longest that a model reads."""
OPEN = {"/healthz"}
"""Paths that need no token."""
DEFAULT_PORTS = {"http": 80, "https": 443}
"""Ports that browsers leave out of an origin."""
LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine."""


class Protection:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, token: str | None, host: str) -> None:
        self.app = app
        self.names = {*LOCAL, host.lower()} if token is None and is_loopback(host) else None
        self.expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 400, 401 or 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = _name(headers.get("host", ""))
        if self.names is not None and name not in self.names:  # DNS rebinding
            error = ApiError(400, f"without --token only localhost may be addressed, not {name!r}")
            await error.response()(scope, receive, send)
            return
        received = headers.get("authorization", "").encode("latin-1")
        if self.expected is not None and scope["path"] not in OPEN and not hmac.compare_digest(received, self.expected):
            error = ApiError(
                401,
                "send the bearer token: `Authorization: Bearer …` (OpenAI's clients: api_key)",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await error.response()(scope, receive, send)
            return
        most = MAX_BODIES.get(scope["path"], MAX_BODY)
        too_large = f"a request must not exceed {most:,} bytes: send less at once"
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            await ApiError(413, too_large).response()(scope, receive, send)
            return
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:  # chunked, without Content-Length
                raise HTTPException(413, too_large)  # the only exception that FastAPI passes on here
            return message

        await self.app(scope, limited, send)


def check_origin(text: str) -> str:
    """A page's origin as browsers send it, without a path: `https://chat.example`, `http://localhost:3000`.

    Raises:
        ConfigError: it is none. Neither is `*` or `null`, with which pages of anyone could read the documents.
    """
    try:
        url = urlsplit(text.strip().lower())
        host, port = url.hostname, url.port
        if not url.scheme or not host or "@" in text or "*" in text or url.path.strip("/") or url.query or url.fragment:
            raise ValueError
    except ValueError:
        message = f"--allow-origin must be the origin of a page, such as http://localhost:3000, got {text!r}"
        raise ConfigError(message) from None
    shown = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{shown}" + (f":{port}" if port and port != DEFAULT_PORTS.get(url.scheme) else "")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()
