"""The page behind a proxy: `ragx chat --root-path`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from gradio_client import Client
from ragx_apps.chat.serving import check_root_path
from ragx_apps.queue import QuestionQueue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount

from ragx.errors import ConfigError
from ragx.rag import RAG
from tests.helpers.chat_page import SENTENCE, serving_page
from tests.helpers.served import eventually


@contextmanager
def proxy(page: str) -> Iterator[str]:
    """A proxy that serves a page under /chat; it removes the path and keeps the host name, as Caddy does."""
    client = httpx.AsyncClient(base_url=page, timeout=60)

    async def forward(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        request = Request(scope, receive)
        path = scope["path"].removeprefix("/chat") or "/"
        sent = client.build_request(
            request.method, path, params=request.query_params, headers=request.headers.raw, content=await request.body()
        )
        received = await client.send(sent, stream=True)
        if "text/event-stream" in received.headers.get("content-type", ""):
            answer: Response = StreamingResponse(received.aiter_bytes(), received.status_code)
        else:
            answer = Response(await received.aread(), received.status_code)
        answer.headers["content-type"] = received.headers.get("content-type", "text/plain")
        await answer(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=[Mount("/chat", forward)]), port=0, log_level="warning", log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/chat"
    finally:
        server.should_exit = True
        thread.join()


def test_a_page_under_a_path_answers(chat_rag: RAG, queue: QuestionQueue, chat_index: Path, tmp_path: Path) -> None:
    with (
        serving_page(chat_rag, queue, chat_index, tmp_path, root_path="/chat") as page,
        proxy(page.rstrip("/")) as address,
    ):
        shown = httpx.get(f"{address}/").text
        root = json.loads(re.findall(r"window.gradio_config = ({.*?});</script>", shown)[0])["root"]
        assert root.endswith("/chat")
        assert httpx.get(f"{address}/gradio_api/file=/etc/passwd").status_code == 404
        answered = Client(f"{address}/", verbose=False).predict("Is snow bright?", max_new_tokens=8, api_name="/ask")
        assert SENTENCE.strip().startswith(answered["answer"])


def test_a_url_lets_its_host_name_in(chat_rag: RAG, queue: QuestionQueue, chat_index: Path, tmp_path: Path) -> None:
    url = "https://docs.example/chat"
    with serving_page(chat_rag, queue, chat_index, tmp_path, root_path=url) as page:
        for host, status in (("docs.example", 200), ("localhost", 200), ("evil.example", 400)):
            assert httpx.get(page, headers={"Host": host}).status_code == status
        assert f'"root":"{url}"' in httpx.get(page, headers={"Host": "docs.example"}).text


def test_a_root_path_is_a_path_or_a_url() -> None:
    assert [check_root_path(text) for text in ("/chat/", "https://docs.example/chat")] == [
        "/chat",
        "https://docs.example/chat",
    ]
    for text in ("chat", "ftp://docs.example", "//docs.example", "/chat?a=b", "http://[a", ""):
        with pytest.raises(ConfigError, match="--root-path"):
            check_root_path(text)
