"""`ragx ask`: answer, sources, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from tests.helpers.command import QUESTION, RunCommand
from tests.helpers.tiny_embedders import save_tiny_embedder


def test_an_answer_with_its_sources(ragx: RunCommand, index: Path, notes: Path) -> None:
    run = ragx("ask", "What percentage of sunlight does fresh snow reflect?", "--index", index, "--max-new-tokens", 40)
    assert run.code == 0, run.err
    answer, sources = run.out.split("\n\nSources:\n")
    assert "90" in answer
    assert "[1] Snow  (score " in sources
    assert f"{notes}/snow.md, characters " in sources
    assert "“Fresh snow reflects up to 90 percent" in sources
    assert "untrained" not in run.err
    assert "k is 60, but the index has 4 passages" in run.err
    assert "tokens/s" in run.err


def test_json_holds_the_answer_its_citations_hits_and_timings(ragx: RunCommand, index: Path, notes: Path) -> None:
    run = ragx(
        *("ask", QUESTION, "--index", index, "--json", "-k", 3, "--prompt-passages", 1, "--max-new-tokens", 40),
        *("--within", "inf"),
    )
    values = json.loads(run.out)
    assert set(values) == {
        "question",
        "answer",
        "citations",
        "hits",
        "timings",
        "tokens_per_second",
        "attention_shares",
        "likelihood",
        "refused",
        "supported",
        "notes",
    }
    assert set(values["timings"]) >= {"retrieve", "encode", "first_token", "total"}
    assert len(values["hits"]) == 3
    retrieved = {hit["document"] for hit in values["hits"]}
    assert values["citations"]
    for citation in values["citations"]:
        document = unicodedata.normalize("NFC", (notes / citation["document"]).read_text(encoding="utf-8"))
        assert document[citation["start"] : citation["end"]] == citation["text"]
        assert citation["document"] in retrieved


def test_the_default_reader_reads_what_may_hold_the_answer(ragx: RunCommand, index: Path) -> None:
    def read(*options: object) -> int:
        run = ragx("ask", QUESTION, "--index", index, "--json", "--max-new-tokens", 2, *options)
        return len(json.loads(run.out)["hits"])

    assert read() == read("--within", 3) < read("--within", 100) == read("--within", "inf")


@pytest.mark.parametrize("reader", ["cepe", "full", "replug", "streaming"])
@pytest.mark.parametrize("retriever", ["dense", "bm25", "hybrid"])
def test_every_reader_answers_over_every_retriever(
    ragx: RunCommand, index: Path, tiny_decoder: Path, reader: str, retriever: str
) -> None:
    run = ragx(
        *("ask", QUESTION, "--index", index, "--model", tiny_decoder, "--reader", reader, "--method", retriever),
        *("--max-new-tokens", 3, "-k", 2, "--prompt-passages", 1, "--json"),
    )
    assert run.code == 0, run.err
    assert len(json.loads(run.out)["hits"]) == 2


def test_an_embedder_reads_passages_as_embeddings(
    ragx: RunCommand, index: Path, tiny_decoder: Path, tmp_path: Path
) -> None:
    model = save_tiny_embedder(tmp_path / "embedder", tiny_decoder)
    run = ragx(
        *("ask", QUESTION, "--index", index, "--model", model, "--reader", "extensible", "--ratio", 4),
        *("--method", "bm25", "--max-new-tokens", 3, "-k", 2, "--prompt-passages", 1, "--json"),
    )
    assert run.code == 0, run.err
    assert len(json.loads(run.out)["hits"]) == 2


def test_a_question_of_invalid_unicode_is_answered(ragx: RunCommand, index: Path, tiny_decoder: Path) -> None:
    run = ragx(
        "ask", "snow \udcff?", "--index", index, "--model", tiny_decoder, "--max-new-tokens", 2, "--attention-shares"
    )
    assert run.code == 0, run.err
    assert "does not attend to passages" in run.out


@pytest.mark.slow
def test_ctrl_c_ends_cleanly(index: Path) -> None:
    # so hot that every token is as likely as the end of the answer, which may not come first
    command = [sys.executable, "-m", "ragx", "ask", QUESTION, "--index", str(index), "--temperature", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.read(1)  # the answer has begun
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "ragx: interrupted"
    assert "Traceback" not in err
