"""Pages of other origins: those that the user allows, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from ragx_apps.server.protection import check_origin

from ragx.errors import ConfigError
from ragx.rag import RAG
from tests.helpers.served import Server, serving

PAGE = "http://localhost:3000"
NOTES = "app://obsidian.md"
SEARCH = "/v1/search"
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def open_to_pages(rag: RAG) -> Iterator[Server]:
    with serving(rag, token="open sesame", origins=[PAGE, NOTES]) as running:
        yield running


def preflight(server: Server, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,authorization",
        "Access-Control-Request-Private-Network": "true",
    }
    return httpx.options(f"{server.url}{SEARCH}", headers=headers)


@pytest.mark.parametrize("origin", [PAGE, NOTES])
def test_an_allowed_page_may_ask(open_to_pages: Server, origin: str) -> None:
    before = preflight(open_to_pages, origin)  # has no token
    assert before.status_code == 200
    assert before.headers[ALLOWED] == origin
    assert before.headers["access-control-allow-headers"] == "content-type,authorization"
    assert before.headers["access-control-allow-private-network"] == "true"
    headers = {"Origin": origin, "Authorization": "Bearer open sesame"}
    found = httpx.post(f"{open_to_pages.url}{SEARCH}", json={"query": "snow"}, headers=headers, timeout=60)
    assert (found.status_code, found.headers[ALLOWED], found.headers["vary"]) == (200, origin, "Origin")


def test_an_allowed_page_can_read_errors(open_to_pages: Server) -> None:
    for headers, status in (({}, 401), ({"Authorization": "Bearer open sesame"}, 400)):
        refused = httpx.post(f"{open_to_pages.url}{SEARCH}", json={}, headers={"Origin": PAGE, **headers})
        assert (refused.status_code, refused.headers[ALLOWED]) == (status, PAGE)


@pytest.mark.parametrize("origin", ["http://localhost:3001", "https://localhost:3000", "http://evil.example", "null"])
def test_other_pages_may_not(open_to_pages: Server, origin: str) -> None:
    before = preflight(open_to_pages, origin)
    assert before.status_code == 400
    assert ALLOWED not in before.headers
    found = httpx.get(f"{open_to_pages.url}/healthz", headers={"Origin": origin})
    assert ALLOWED not in found.headers


def test_no_page_may_unless_one_is_allowed(server: Server) -> None:
    assert ALLOWED not in preflight(server, PAGE).headers
    assert ALLOWED not in httpx.get(f"{server.url}/v1/models", headers={"Origin": PAGE}).headers


@pytest.mark.parametrize("origin", [PAGE, "http://evil.example:8000"])
def test_a_page_under_a_name_rebound_to_this_machine_is_refused(rag: RAG, origin: str) -> None:
    with serving(rag, origins=[PAGE]) as server:
        headers = {"Host": "evil.example:8000", "Origin": origin}
        refused = httpx.post(f"{server.url}{SEARCH}", json={"query": "snow"}, headers=headers)
        assert refused.status_code == 400
        assert "localhost" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://LocalHost:3000/", PAGE),
        ("https://chat.example:443", "https://chat.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("app://obsidian.md", NOTES),
    ],
)
def test_an_origin_is_written_as_browsers_send_it(text: str, origin: str) -> None:
    assert check_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "",
        "localhost:3000",
        "http://",
        "http://*.example",
        "http://a@b",
        "http://a/v1",
        "http://a:x",
        "http://[a",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--allow-origin"):
        check_origin(text)
