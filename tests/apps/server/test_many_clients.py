"""Queue, time limit, disconnecting clients, shutdown and token."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from ragx_apps.server.protection import MAX_BODY

from ragx.config import SamplingParams
from ragx.index import collect_garbage
from ragx.indexing.delete import delete
from ragx.rag import RAG
from ragx.retrieval import Retriever, open_index
from tests.helpers.articles import BRIDGE, build_articles
from tests.helpers.articles import QUESTION as NEEDS_TWO
from tests.helpers.served import LONG, MODEL, QUESTION, Server, serving
from tests.helpers.tiny_cross_encoders import LengthReranker
from tests.helpers.waiting import eventually

CHAT = "/v1/chat/completions"


def short(tokens: int) -> dict[str, Any]:
    return {**LONG, "max_tokens": tokens}


def send(server: Server, request: dict[str, Any]) -> socket.socket:
    """Send a request without waiting for the answer; closing the connection leaves it."""
    address = server.client.base_url
    connection = socket.create_connection((address.host, address.port))
    body = json.dumps(request).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_a_request_beyond_the_queue_may_be_retried_later(server: Server) -> None:
    with ThreadPoolExecutor(6) as clients:
        leave = threading.Event()

        def hold() -> None:
            with server.client.stream("POST", CHAT, json={**LONG, "stream": True}) as response:
                assert response.status_code == 200
                for _ in response.iter_lines():
                    if leave.is_set():
                        return

        requests = [clients.submit(hold) for _ in range(3)]
        assert eventually(lambda: server.service.queue.running == 3)
        requests += [clients.submit(hold) for _ in range(3)]
        assert eventually(lambda: server.service.queue.admitted == 6)
        refused = server.client.post(CHAT, json=short(1))
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert server.client.post("/v1/search", json={"query": "snow"}).status_code == 429
        assert server.client.get("/healthz").json() == {"status": "ok"}
        leave.set()
        for client in requests:
            client.result(timeout=60)
    assert server.is_idle()
    assert server.client.post(CHAT, json=short(1)).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_disconnects_stops_its_answer(server: Server, stream: bool) -> None:
    def cancelled() -> float:
        return server.service.metrics.registry.get_sample_value("ragx_answers_total", {"finish": "cancelled"}) or 0

    before = cancelled()
    with send(server, {**LONG, "stream": stream}):
        assert eventually(lambda: server.service.queue.running == 1)
    assert server.is_idle()
    assert cancelled() == before + 1


def test_an_answer_that_takes_too_long(rag: RAG) -> None:
    with serving(rag, batch=2, time_limit=0.5) as server:
        late = server.client.post(CHAT, json=LONG)
        assert late.status_code == 503
        assert late.json()["error"]["message"] == "no whole answer within 0.5 seconds"
        streamed = server.client.post(CHAT, json={**LONG, "stream": True})
        assert '"code": "time_limit"' in streamed.text.strip().splitlines()[-1]
        assert server.is_idle()


def test_encodings_are_shared_between_requests(server: Server, rag: RAG) -> None:
    store: Any = rag.readers["cepe"].store  # type: ignore[attr-defined]
    assert server.client.post(CHAT, json=short(1)).status_code == 200
    before = store.stats
    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(lambda _: server.client.post(CHAT, json=short(2)), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert store.stats.misses == before.misses
    assert store.stats.hits >= before.hits + 3


def test_deleted_text_is_not_served(rag: RAG, notes_index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(notes_index, folder)
    question = {**short(1), "messages": [{"role": "user", "content": "What does dark soil absorb?"}]}
    with serving(RAG(open_index(folder), rag.readers)) as server:

        def found() -> set[str]:
            hits = server.client.post("/v1/search", json={"query": "dark soil"}).json()["data"]
            return {hit["passage"]["document"] for hit in hits}

        before = server.client.post(CHAT, json=question).json()["usage"]["prompt_tokens"]
        assert "soil.txt" in found()
        delete(folder, ["soil.txt"])
        collect_garbage(folder)
        assert "soil.txt" not in found()
        after = server.client.post(CHAT, json=question).json()["usage"]["prompt_tokens"]
        assert after < before, "its passage is no longer in the prompt"


def test_searches_and_answers_are_reranked(rag: RAG) -> None:
    reranked = RAG(rag.retriever, rag.readers, reranker=LengthReranker())
    with serving(reranked) as server:
        found = server.client.post("/v1/search", json={"query": QUESTION, "k": 2}).json()["data"]
        lengths = [len(hit["passage"]["text"]) for hit in found]
        assert [hit["rerank_score"] for hit in found] == lengths == sorted(lengths, reverse=True)
        assert {hit["reranker"] for hit in found} == {"longest"}
        question = {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": QUESTION}]}
        answer = server.client.post(CHAT, json={**question, "ragx": {"k": 1}}).json()
        assert (
            answer["choices"][0]["message"]["content"]
            == reranked.ask(QUESTION, k=1, sampling=SamplingParams(max_new_tokens=4)).text
        )


def test_searches_and_answers_are_filtered(server: Server) -> None:
    where = 'path == "soil.txt"'
    found = server.client.post("/v1/search", json={"query": "sunlight", "where": where}).json()["data"]
    assert [hit["passage"]["document"] for hit in found] == ["soil.txt"]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "sunlight"}], "ragx": {"where": "year > 2020"}}
    for path, request in (("/v1/chat/completions", body), ("/v1/search", {"query": "snow", "where": "year > 2020"})):
        refused = server.client.post(path, json=request)
        assert refused.status_code == 400
        assert "no field 'year'" in refused.json()["error"]["message"]


def test_clients_choose_the_effort(rag: RAG, tmp_path: Path) -> None:
    index = open_index(build_articles(tmp_path / "articles"), method="bm25")
    with serving(RAG(index, rag.readers, method="bm25")) as server:
        for effort, is_found in (("low", False), ("medium", True)):
            body = {"query": NEEDS_TWO, "k": 6, "effort": effort}
            found = server.client.post("/v1/search", json=body).json()["data"]
            assert (BRIDGE in [hit["passage"]["title"] for hit in found]) == is_found
        refused = server.client.post("/v1/search", json={"query": QUESTION, "effort": "most"})
        assert refused.status_code == 400


def test_search_shows_passages(server: Server) -> None:
    found = server.client.post("/v1/search", json={"query": QUESTION, "k": 2}).json()
    assert (found["object"], found["notes"]) == ("list", [])
    assert [set(hit) for hit in found["data"]] == [{"passage", "score", "rerank_score", "reranker"}] * 2
    assert "90 percent" in found["data"][0]["passage"]["text"]
    assert server.client.post("/v1/search", json={"query": " "}).status_code == 400


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("method", ["dense", "hybrid"])
def test_a_server_without_an_embedder_offers_bm25_only(rag: RAG, method: str, stream: bool) -> None:
    by_words = RAG(Retriever(rag.retriever.index), rag.readers, method="bm25")
    with serving(by_words) as server:
        chat = {**short(1), "stream": stream}
        for path, request in (
            ("/v1/search", {"query": "snow", "method": method}),
            (CHAT, {**chat, "ragx": {"method": method}}),
        ):
            refused = server.client.post(path, json=request)
            assert refused.status_code == 400
            assert refused.json()["error"] == {
                "message": "this server searches with bm25 only",
                "type": "invalid_request_error",
                "param": "method",
                "code": None,
            }
        assert server.client.post("/v1/search", json={"query": "snow", "method": "bm25"}).json()["data"]
        assert server.client.post("/v1/search", json={"query": "snow"}).json()["data"]
        assert server.client.post(CHAT, json=chat).status_code == 200


def test_metrics_count_requests_and_tokens(server: Server) -> None:
    def value(name: str) -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = value("ragx_answer_tokens_total"), value('ragx_requests_total{path="/v1/chat/completions",status="200"}')
    assert server.client.post(CHAT, json=short(5)).status_code == 200
    assert value("ragx_answer_tokens_total") == before[0] + 5
    assert value('ragx_requests_total{path="/v1/chat/completions",status="200"}') == before[1] + 1
    assert server.client.get(f"/no/such/{random.random()}").status_code == 404
    assert value('ragx_requests_total{path="other",status="404"}') >= 1


def test_a_token_is_required(rag: RAG) -> None:
    with serving(rag, token="open sesame") as server:
        client = server.client
        for header in ({}, {"Authorization": "Bearer open"}, {"Authorization": "Bearer open sesame\u00e9".encode()}):
            refused = client.post("/v1/search", json={"query": "snow"}, headers=header)  # type: ignore[arg-type]
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200
        client.headers["Authorization"] = "Bearer open sesame"
        assert client.post("/v1/search", json={"query": "snow"}).status_code == 200


def test_other_host_names_are_refused(server: Server) -> None:
    for host in ("evil.example:8000", "evil.example", "127.0.0.1.evil.example", "[::2]:8000", ""):
        headers = {"Host": host, "Origin": "http://evil.example:8000"}
        refused = server.client.post("/v1/search", json={"query": "snow"}, headers=headers)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "localhost" in error["message"]
    for host in ("127.0.0.1:8000", "127.0.0.1", "localhost:8000", "LocalHost", "[::1]:8000", "[::1]"):
        assert server.client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "token", "name", "status"),
    [
        ("127.0.0.2", None, "127.0.0.2:8000", 200),
        ("127.0.0.2", None, "evil.example", 400),
        ("127.0.0.1", "open sesame", "proxy.example", 200),
        ("0.0.0.0", None, "server.example", 200),  # noqa: S104
    ],
)
def test_a_public_server_or_one_with_a_token_answers_under_any_name(
    rag: RAG, host: str, token: str | None, name: str, status: int
) -> None:
    with serving(rag, token=token, host=host) as server:
        headers = {"Host": name, "Authorization": f"Bearer {token}"}
        assert server.client.get("/v1/models", headers=headers).status_code == status


def test_a_request_too_large_is_refused_with_or_without_its_length(server: Server) -> None:
    body = b'{"query": "' + b"a" * MAX_BODY + b'"}'
    headers = {"Content-Type": "application/json"}
    for content in (body, iter([body[: MAX_BODY // 2], body[MAX_BODY // 2 :]])):
        refused = server.client.post("/v1/search", content=content, headers=headers)
        assert refused.status_code == 413
        assert "1,048,576 bytes" in refused.json()["error"]["message"]


def test_a_request_for_embeddings_may_be_larger(server: Server) -> None:
    def status(size: int) -> int:
        return httpx.post(f"{server.url}/v1/embeddings", json={"model": "none", "input": "a" * size}).status_code

    assert [status(2 * MAX_BODY), status(9 * MAX_BODY)] == [404, 413]


@pytest.mark.slow
def test_many_clients_some_of_whom_leave(server: Server) -> None:
    chance = random.Random(0)
    plans = [(chance.choice(["whole", "stream", "leave", "drop"]), chance.randrange(1, 30)) for _ in range(60)]
    seen: Counter[int] = Counter()

    def client(plan: tuple[str, int]) -> None:
        how, tokens = plan
        endless = how in ("leave", "drop")
        request = {**short(7000 if endless else tokens), "stream": how in ("stream", "leave")}
        if how == "drop":  # gone before the answer begins
            send(server, request).close()
            return
        with server.client.stream("POST", CHAT, json=request) as response:
            seen[response.status_code] += 1
            for number, _ in enumerate(response.iter_lines()):
                if how == "leave" and number == tokens:
                    break

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(client, plans))
    assert set(seen) <= {200, 429}
    assert seen[200]
    assert server.is_idle()


def refuses_connections(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=60)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_shutdown_finishes_answers_and_accepts_nothing_new(
    notes_index: Path, talkative: Path, ending: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "ragx", "serve", "--index", str(notes_index), "--model", str(talkative)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--method", "bm25"], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stderr is not None
    try:
        lines = []
        while "listening on" not in (line := process.stderr.readline()):
            assert line, lines
            lines.append(line)
        url = line.split()[2].removesuffix("/v1;")
        request = {**short(400), "model": str(talkative), "stream": True}
        with httpx.stream("POST", f"{url}{CHAT}", json=request, timeout=60) as response:
            received = response.iter_lines()
            next(received)
            process.send_signal(ending)
            assert eventually(lambda: refuses_connections(url))
            assert list(received)[-2:] == ["data: [DONE]", ""]
        assert process.wait(timeout=30) == code
        assert process.stderr.read() == ("" if code == 0 else "ragx: interrupted\n")
    finally:
        process.kill()
        process.wait()


def test_an_address_in_use_is_one_clear_line(notes_index: Path, server: Server) -> None:
    from ragx_apps.server.command import listen

    from ragx.errors import RagxError

    with pytest.raises(RagxError, match="Address already in use"):
        listen(server.app, "127.0.0.1", server.client.base_url.port, 1)


def test_models_are_named_in_errors_as_text(server: Server) -> None:
    request = {**short(1), "model": "\ud800<script>"}
    refused = httpx.post(
        f"{server.url}{CHAT}",
        content=json.dumps(request).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert refused.status_code == 404
    assert MODEL in refused.json()["error"]["message"]
