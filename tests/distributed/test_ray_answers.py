"""`ask` and `serve` with search on Ray answer as locally, or report what was not searched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray

from ragx.config import IndexSettings
from ragx.indexing.build import build
from ragx.rag import RAG
from tests.helpers.command import RunCommand
from tests.helpers.served import LONG, QUESTION, serving
from tests.helpers.waiting import eventually

distributed = pytest.importorskip("ragx.distributed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

LOST = "50.0% of the passages were not searched"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four notes in four shards."""
    notes, folder = (tmp_path_factory.mktemp(name) for name in ("notes", "index"))
    for name in ("snow", "soil", "sea", "sand"):
        (notes / f"{name}.txt").write_text(f"How much light {name} reflects was measured.\n", encoding="utf-8")
    build([str(notes)], folder, IndexSettings(shard_size=1))
    return folder


def test_ask_answers_as_locally(index: Path, tiny_decoder: Path, run_command: RunCommand) -> None:
    answers = []
    for engine in ("local", "ray"):
        options = ["--model", tiny_decoder, "-k", "4", "--prompt-passages", "1", "--max-new-tokens", "3", "--json"]
        code, out, _ = run_command("ask", QUESTION, "--index", index, "--engine", engine, *options)
        assert code == 0
        answers.append(json.loads(out))
    local, remote = answers
    assert len(local["hits"]) == 4
    scores = [[hit.pop("score") for hit in each["hits"]] for each in answers]
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)  # actors use other thread counts
    assert [remote[key] for key in ("answer", "citations", "hits", "notes")] == [
        local[key] for key in ("answer", "citations", "hits", "notes")
    ]


def test_a_server_reports_with_each_answer_what_was_not_searched(index: Path, tiny_decoder: Path) -> None:
    rag = RAG.from_index(index, model=str(tiny_decoder), dtype="float32", device="cpu")
    chat = {**LONG, "max_tokens": 2, "ragx": {"k": 4, "prompt_passages": 1}}
    with distributed.RayRetriever(rag.retriever.index, rag.retriever.embedder, actors=2) as retriever:
        remote = RAG(retriever, rag.readers)
        with serving(remote) as server:

            def notes(path: str, body: dict[str, object]) -> str:
                answer = server.client.post(path, json=body).raise_for_status().json()
                return "\n".join(answer.get("ragx", answer)["notes"])

            def partial_searches() -> float:
                return server.service.metrics.registry.get_sample_value("ragx_partial_searches_total") or 0

            assert LOST not in notes("/v1/chat/completions", chat)
            assert LOST not in notes("/v1/search", {"query": QUESTION})
            assert partial_searches() == 0
            ray.kill(retriever._actors[0][1])
            assert eventually(lambda: LOST in notes("/v1/search", {"query": QUESTION}))  # Ray kills asynchronously
            before = partial_searches()
            assert before >= 1
            assert LOST in notes("/v1/chat/completions", chat)
            assert partial_searches() == before + 1
