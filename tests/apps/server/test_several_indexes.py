"""One server over several indexes, and its logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from ragx_apps.server.command import add_to
from ragx_apps.server.logs import JsonLines, logger
from typer.testing import CliRunner

from ragx.config import IndexSettings, SamplingParams
from ragx.errors import ConfigError
from ragx.indexing.build import build
from ragx.rag import RAG
from ragx.retrieval import open_index
from tests.helpers.served import MODEL, QUESTION, Server, serving
from tests.helpers.waiting import eventually

CHAT = {"max_tokens": 8, "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture(scope="module")
def other(rag: RAG, tmp_path_factory: pytest.TempPathFactory) -> RAG:
    notes, folder = (tmp_path_factory.mktemp(name) for name in ("other-notes", "other-index"))
    (notes / "sea.txt").write_text("The sea absorbs most of the sunlight.\n", encoding="utf-8")
    build([str(notes)], folder, IndexSettings())
    return RAG(open_index(folder), rag.readers)


@pytest.fixture(scope="module")
def server(rag: RAG, other: RAG) -> Iterator[Server]:
    with serving(rag, indexes={"notes": rag, "sea": other}) as running:
        yield running


def test_each_index_is_a_model(server: Server, rag: RAG, other: RAG) -> None:
    names = [model["id"] for model in server.client.get("/v1/models").json()["data"]]
    assert names == [MODEL, "ragx/notes", "ragx/sea", "all-minilm-l6-v2", "rerank-minilm-l6"]
    assert server.client.get("/v1/models/ragx/sea").json()["id"] == "ragx/sea"
    sampling = SamplingParams(max_new_tokens=8)
    for name, asked in ((MODEL, rag), ("ragx/notes", rag), ("ragx/sea", other)):
        expected = asked.ask(QUESTION, sampling=sampling)
        answer = server.client.post("/v1/chat/completions", json={**CHAT, "model": name}).json()
        assert answer["model"] == name
        assert answer["choices"][0]["message"]["content"] == expected.text
        assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens
        hits = server.client.post("/v1/search", json={"query": "sunlight", "model": name}).json()["data"]
        assert {hit["passage"]["document"] for hit in hits} == {hit.passage.document for hit in expected.hits}


def test_an_unknown_index_is_not_found(server: Server) -> None:
    for path, request in (("chat/completions", CHAT), ("search", {"query": "sea"}), ("responses", {"input": "sea"})):
        refused = server.client.post(f"/v1/{path}", json={**request, "model": "ragx/../secret"})
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "model_not_found"


def test_requests_have_ids_and_logs(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[dict[str, object]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = json.loads(self.format(record))
            if line["request_id"] == "mine-1":  # an earlier request's may come now
                lines.append(line)

    handler = Lines()
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, logger.name)
    try:
        answer = server.client.post(
            "/v1/chat/completions", json={**CHAT, "model": MODEL}, headers={"X-Request-Id": "mine-1"}
        )
        assert eventually(lambda: {line["event"] for line in lines} == {"answer", "request"})
    finally:
        logger.removeHandler(handler)
    assert answer.headers["X-Request-Id"] == "mine-1"
    by_event = {str(line["event"]): line for line in lines}
    assert by_event["request"]["status"] == 200
    assert by_event["answer"]["answer_tokens"] == 8
    assert QUESTION not in json.dumps(lines)
    ids = [
        server.client.get("/healthz", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
        for sent in ("", "a b", "x" * 200)
    ]
    assert len(set(ids)) == 3
    assert all(len(each) == 32 for each in ids)


def test_metrics_cover_the_queue_the_batch_and_the_encodings(server: Server) -> None:
    for _ in range(2):
        assert server.client.post("/v1/chat/completions", json={**CHAT, "model": MODEL}).status_code == 200
    text = server.client.get("/metrics").text
    values = {line.split()[0]: float(line.split()[-1]) for line in text.splitlines() if not line.startswith("#")}
    assert values["ragx_batch_answers"] == values["ragx_answers_waiting"] == 0
    assert values["ragx_queue_seconds_count"] >= 2
    assert values["ragx_first_token_seconds_count"] >= 2
    assert values["ragx_encoding_hits_total"] >= 3
    assert values["ragx_encoding_misses_total"] >= 0


def test_reused_prompts_are_counted(server: Server) -> None:
    def reused() -> float:
        return server.service.metrics.registry.get_sample_value("ragx_reused_prompt_tokens_total") or 0

    def ask() -> dict[str, int]:
        question = {**CHAT, "model": MODEL, "ragx": {"reader": "full", "k": 3}}
        usage: dict[str, int] = server.client.post("/v1/chat/completions", json=question).json()["usage"]
        return usage

    first = ask()
    before = reused()
    assert ask() == first
    assert reused() - before == first["prompt_tokens"] - 1, "all but the last token, which gives the logits"


def test_two_indexes_of_one_name_are_refused(tmp_path: Path) -> None:
    app = typer.Typer()
    add_to(app)
    folders = [str(tmp_path / place / "notes") for place in ("a", "b")]
    result = CliRunner().invoke(app, ["--index", folders[0], "--index", folders[1]])
    assert isinstance(result.exception, ConfigError)
    assert "two indexes are named notes" in str(result.exception)
