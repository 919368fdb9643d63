"""Rerank APIs: what is sent, what is read, and that a key stays secret and a failure harmless."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from ragx.errors import ConfigError
from ragx.retrieval import SearchResults
from ragx.retrieval.rerankers import open_reranker, rerank
from ragx.types import Hit
from tests.helpers.toy_embedders import passages

KEY = "secret-key-42"
TEXTS = ["soil absorbs light", "snow reflects light", "the sea is blue"]


@contextmanager
def service(answer: object, status: int = 200) -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    """The URL of a rerank API that always gives one answer, and the requests it got: headers and bodies."""
    requests: list[tuple[dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/rerank", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def results(*scores: float) -> dict[str, object]:
    """An answer in the form of Jina's and Cohere's: best first."""
    ranked = sorted(enumerate(scores), key=lambda pair: -pair[1])
    return {"id": "1", "model": "m", "results": [{"index": n, "relevance_score": score} for n, score in ranked]}


def test_question_and_passages_are_sent_and_the_scores_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGX_RERANK_API_KEY", KEY)
    with service(results(0.1, 0.9, 0.5)) as (url, requests):
        reranker = open_reranker(f"{url}#rerank-v3.5")
        assert reranker is not None
        scores = reranker.scores("What reflects light?", passages(TEXTS))
    np.testing.assert_allclose(scores, [0.1, 0.9, 0.5])
    ((headers, body),) = requests
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {"model": "rerank-v3.5", "query": "What reflects light?", "documents": TEXTS}
    assert reranker.name == "127.0.0.1 rerank-v3.5"


def test_a_local_server_needs_neither_model_nor_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAGX_RERANK_API_KEY", raising=False)
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    with service(results(0.1, 0.9, 0.5)) as (url, requests):
        reranker = open_reranker(url)
        assert reranker is not None
        reranker.scores("q", passages(TEXTS))
    ((headers, body),) = requests
    assert "authorization" not in headers
    assert "model" not in body


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"message": f"bad key {KEY}"}, 401, "HTTP 401"),
        (b"busy", 500, "HTTP 500"),
        (b"", 307, "HTTP 307"),
        (b"not JSON " + KEY.encode(), 200, "unexpected response"),
        ({"answer": []}, 200, "unexpected response"),
        ([1, 2], 200, "unexpected response"),
        ({"results": [{"index": 0, "relevance_score": KEY}]}, 200, "unexpected response"),
        ({"results": [{"index": 3, "relevance_score": 1}]}, 200, "was not sent"),
        ({"results": [{"index": -1, "relevance_score": 1}]}, 200, "was not sent"),
        (results(0.1, 0.9), 200, "no score"),
    ],
)
def test_a_service_that_fails_is_one_note(
    answer: object, status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGX_RERANK_API_KEY", KEY)
    before = [Hit(passage, 1.0) for passage in passages(TEXTS)]
    hits = SearchResults(before)
    with service(answer, status) as (url, _):
        reranker = open_reranker(url)
        assert reranker is not None
        rerank(hits, reranker, "What reflects light?")
    assert hits == before
    (note,) = hits.notes
    assert reason in note
    assert KEY not in note
    assert "\n" not in note


def test_a_service_that_is_gone_is_one_note() -> None:
    with service(results()) as (url, _):
        reranker = open_reranker(url)
    hits = SearchResults(Hit(passage, 1.0) for passage in passages(TEXTS))
    assert reranker is not None
    rerank(hits, reranker, "q")
    assert "no connection" in hits.notes[0]


def test_a_service_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("ragx.retrieval.rerankers.api.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reranker = open_reranker(f"http://127.0.0.1:{silent.getsockname()[1]}/rerank")
        hits = SearchResults(Hit(passage, 1.0) for passage in passages(TEXTS))
        assert reranker is not None
        rerank(hits, reranker, "q")
    assert "no answer within 0.2 seconds" in hits.notes[0]


@pytest.mark.parametrize("url", ["https://", "http:///rerank", "https://[::1/rerank", "https://host:port/rerank"])
def test_a_url_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="rerank must be a URL"):
        open_reranker(url)


def test_a_key_is_neither_part_of_a_url_nor_sent_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGX_RERANK_API_KEY", KEY)
    with pytest.raises(ConfigError, match="RAGX_RERANK_API_KEY") as refused:
        open_reranker(f"https://user:{KEY}@host/rerank")
    assert KEY not in str(refused.value)
    with pytest.raises(ConfigError, match="use https") as refused:
        open_reranker("http://rerank.example/v1/rerank")
    assert KEY not in str(refused.value)


def test_offline_no_other_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    with pytest.raises(ConfigError, match="offline"):
        open_reranker("https://rerank.example/v1/rerank")
