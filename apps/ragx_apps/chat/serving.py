"""Serving the page: address, security headers, closed routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

import gradio as gr
from gradio_client.utils import is_file_obj, is_http_url_like, traverse
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragx.errors import ConfigError, RagxError
from ragx_apps.chat.uploads import MAX_FILE_BYTES

LOCAL = ("127.0.0.1", "localhost")
THREADS = 80
"""Gradio's worker threads. A question occupies one until it is answered; everything else is brief."""
CLOSED = (
    "file",
    "proxy",
    "stream",
    "custom_component",
    "deep_link",
    "vibe",
    "runs",
    "run-history",
    "process_recording",
)
"""Gradio's routes that serve files or that this page does not need."""
HEADERS = {
    # Gradio's own pages need inline scripts and styles, and compile templates
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HERE = Path(__file__).parent


class Blocks(gr.Blocks):
    """Gradio's page, but it never fetches a URL that a visitor sends instead of an uploaded file."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **options: Any) -> Any:
        """Check a visitor's input."""
        traverse(inputs, _refuse_url, _names_url)
        return await super().preprocess_data(block_fn, inputs, *rest, **options)


class Guard:
    """An ASGI middleware: security headers on every response, and no access to Gradio's file routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 404."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        if scope["type"] == "http" and is_closed(scope["path"]):
            await PlainTextResponse("not found", 404)(scope, receive, with_headers)
        else:
            await self.app(scope, receive, with_headers)


def is_closed(path: str) -> bool:
    """Whether a path belongs to a closed route."""
    parts = [part for part in path.split("/") if part]
    inner = parts[1] if parts[:1] == ["gradio_api"] and len(parts) > 1 else ""
    return inner.startswith(CLOSED) or parts[:1] == ["monitoring"]


def _names_url(value: Any) -> bool:
    return bool(is_file_obj(value) and is_http_url_like(value["path"]))


def _refuse_url(_: Any) -> NoReturn:
    raise gr.Error("upload the file itself: URLs are not fetched", print_exception=False)


def check_address(host: str, auth: str | None) -> tuple[str, str] | None:
    """The user and password that visitors need; None where only this machine can reach the page.

    Raises:
        ConfigError: other machines can reach it and there are none, or they do not have the form user:password.
    """
    if auth is None:
        if host not in LOCAL:
            raise ConfigError(f"other machines can reach {host}: set a user and password with --auth USER:PASSWORD")
        return None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise ConfigError("--auth must be USER:PASSWORD")
    return user, password


def check_root_path(text: str) -> str:
    """The path or URL under which a proxy serves the page, without a slash at its end.

    Raises:
        ConfigError: it is neither.
    """
    try:
        url = urlsplit(text)
    except ValueError:
        url = SplitResult("", "", "", "", "")
    is_url = url.scheme in ("http", "https") and url.hostname
    is_path = not (url.scheme or url.netloc) and url.path.startswith("/")
    if not (is_url or is_path) or url.query or url.fragment:
        raise ConfigError(f"--root-path must be a path such as /chat, or a URL, got {text!r}")
    return text.rstrip("/")


def _host(root_path: str | None) -> list[str]:
    host = urlsplit(root_path or "").hostname
    return [host] if host else []


def launch(blocks: gr.Blocks, host: str, port: int, auth: tuple[str, str] | None, root_path: str | None = None) -> str:
    """Serve the page in threads of its own until `blocks.close()`. Returns its address.

    `root_path` is the path, or the whole URL, under which a proxy serves the page; the proxy removes the path.

    Raises:
        RagxError: the address is in use or not available.
    """
    guards = [Middleware(Guard)]
    if host in LOCAL:  # against DNS rebinding
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, *_host(root_path)]))
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            auth=auth,
            root_path=root_path,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            ssr_mode=False,
            allowed_paths=[],
            max_file_size=MAX_FILE_BYTES,
            max_threads=THREADS,
            app_kwargs={"middleware": guards},
            theme=theme(),
            css=(_HERE / "page.css").read_text(encoding="utf-8"),
            head=f"<script>{(_HERE / 'page.js').read_text(encoding='utf-8')}</script>",
        )
    except OSError:  # Gradio's message names its own settings
        raise RagxError(f"cannot listen on {host}:{port}: choose another --port, or stop what uses it") from None
    return address


def theme() -> gr.themes.Base:
    """System fonts, so that none is downloaded."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
