"""`--rerank` in the commands, and the scores they show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.command import QUESTION, RunCommand
from tests.helpers.tiny import save_projection_of, save_tiny_reader
from tests.helpers.tiny_cross_encoders import logits, save_cross_encoder


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("reranker") / "model")


def test_search_shows_each_score_and_where_it_came_from(ragx: RunCommand, index: Path, reranker: Path) -> None:
    plain = json.loads(ragx("search", QUESTION, "--index", index, "--rerank", "none", "--json").out)["hits"]
    assert {(hit["rerank_score"], hit["reranker"]) for hit in plain} == {(None, None)}
    run = ragx("search", QUESTION, "--index", index, "--rerank", reranker, "--json")
    assert run.code == 0, run.err
    found = json.loads(run.out)
    scores = [hit["rerank_score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    read = [" ".join(filter(None, (hit["title"], hit["headings"], hit["text"]))) for hit in found["hits"]]
    assert scores == pytest.approx(logits(reranker, QUESTION, read).tolist(), abs=1e-4)
    assert {hit["id"]: hit["score"] for hit in found["hits"]} == {hit["id"]: hit["score"] for hit in plain}
    assert {hit["reranker"] for hit in found["hits"]} == {str(reranker)}
    shown = ragx("search", QUESTION, "--index", index, "--rerank", reranker, "-k", 1).out
    assert f"; {reranker} {scores[0]:.4f})" in shown
    assert found["hits"][0]["text"].split()[0] in shown, "the best of all, not of the first"


def test_ask_reads_the_reranked_passages(ragx: RunCommand, index: Path, reranker: Path, tiny_decoder: Path) -> None:
    best = json.loads(ragx("search", QUESTION, "--index", index, "--rerank", reranker, "--json", "-k", 2).out)["hits"]
    run = ragx(
        *("ask", QUESTION, "--index", index, "--model", tiny_decoder, "--rerank", reranker, "-k", 2),
        *("--max-new-tokens", 3, "--json"),
    )
    assert run.code == 0, run.err
    assert json.loads(run.out)["hits"] == best


def test_a_service_that_cannot_be_reached_is_one_line_and_the_answer_stands(
    ragx: RunCommand, index: Path, tiny_decoder: Path
) -> None:
    run = ragx(
        *("ask", QUESTION, "--index", index, "--model", tiny_decoder, "--rerank", "http://127.0.0.1:9/rerank"),
        *("--max-new-tokens", 3, "--json"),
    )
    assert run.code == 0, run.err
    values = json.loads(run.out)
    assert len(values["hits"]) == 4
    assert [note for note in values["notes"] if "127.0.0.1 failed" in note]
    assert run.err.count("127.0.0.1 failed") == 1


def test_a_reader_orders_hits_by_encodings_and_by_attention(
    ragx: RunCommand, index: Path, tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    reader = save_tiny_reader(tmp_path / "reader", tiny_decoder)
    refused = ragx("search", QUESTION, "--index", index, "--method", "bm25", "--rerank", f"late:{reader}")
    assert refused.code == 2
    assert "reader has no late.safetensors" in refused.err
    save_projection_of(reader)
    for kind in ("late", "attention"):
        found = ragx("search", QUESTION, "--index", index, "--method", "bm25", "--rerank", f"{kind}:{reader}", "--json")
        assert found.code == 0, found.err
        asked = ragx(
            *("ask", QUESTION, "--index", index, "--method", "bm25", "--model", reader, "--rerank", kind),
            *("--max-new-tokens", 3, "--json"),
        )
        assert asked.code == 0, asked.err
        hits = json.loads(asked.out)["hits"]
        assert [hit["reranker"] for hit in hits] == [kind] * len(hits)
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in json.loads(found.out)["hits"]]
        scores = [hit["rerank_score"] for hit in hits]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("name", "reason"), [("owl", "unknown model 'owl'"), ("", "rerank: ")])
@pytest.mark.parametrize("command", ["ask", "search"])
def test_an_unknown_reranker_is_an_error(ragx: RunCommand, index: Path, command: str, name: str, reason: str) -> None:
    run = ragx(command, QUESTION, "--index", index, "--rerank", name)
    assert (run.code, run.out) == (2, "")
    assert reason in run.err
