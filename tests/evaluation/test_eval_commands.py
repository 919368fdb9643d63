"""`ragx eval` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ragx.cepe.added_weights import save_reader
from ragx.reader.cepe import CepeReader
from tests.helpers.command import Run
from tests.helpers.scripted_api import FINISHED, scripted_api
from tests.helpers.tiny_cross_encoders import save_cross_encoder


@pytest.fixture(scope="module")
def model(reader: CepeReader, tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    save_reader(reader.model, folder, decoder=str(tiny_decoder))
    return folder


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]], tmp_path: Path, model: Path
) -> Callable[..., Run]:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))

    def run(task: str, *arguments: str | Path) -> Run:
        command = ("eval", task, "--model", model, "--device", "cpu", "--dtype", "float32", *arguments)
        return Run(*run_command(*command))

    return run


def test_each_task_prints_a_table(
    evaluate: Callable[..., Run], documents: Path, questions: Path, index: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "grid.png"
    rerank = ["--rerank", save_cross_encoder(tmp_path / "reranker")]
    bm25 = ["--index", index, "--method", "bm25"]
    for arguments, rows in (
        (["lm", "--documents", documents, "--decoder-tokens", 300, "--encoder-tokens", "0,512", "--limit", 1], 3),
        (["lm", "--documents", documents, "--decoder-tokens", 512, "-k", "0,2", "--each", 2, *bm25], 3),
        (["qa", "--questions", questions, "--cepe-k", "1,3", "--full-k", "1", "--limit", 2, *bm25], 3),
        (["qa", "--questions", questions, "--cepe-k", "1", "--full-k", "1", "--limit", 2, *bm25, *rerank], 2),
        (["lm", "--documents", documents, "--decoder-tokens", 512, "-k", "0,2", "--limit", 1, *bm25, *rerank], 3),
        (["qa", "--questions", questions, "--given", "--cepe-k", "1,2", "--full-k", "1", "--limit", 2], 3),
        (["qa", "--questions", questions, "--gold-only", "--distractors", "1", "--limit", 2], 4),
        (["needle", "--documents", documents, "--lengths", 200, "--limit", 1, "--plot", picture], 1),
        (["copy", "--documents", documents, "--limit", 2], 2),
    ):
        done = evaluate(*arguments)
        assert done.code == 0, done.err
        lines = done.out.splitlines()
        assert [line.startswith("|") for line in lines[: rows + 4]] == [True] * (rows + 2) + [False] * 2
        assert "95 % intervals" in done.out
    assert picture.exists()


def test_a_run_continues_and_json_is_one_object(evaluate: Callable[..., Run], documents: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.json"
    first = evaluate("copy", "--documents", documents, "--limit", 1, "--out", out, "--json")
    assert len(out.read_text().splitlines()) == 1 + 2 * 4
    first_results = out.read_text()
    again = evaluate("copy", "--documents", documents, "--limit", 1, "--out", out, "--json")
    assert (again.out, out.read_text()) == (first.out, first_results)
    more = evaluate("copy", "--documents", documents, "--out", out)
    assert more.code == 0
    assert out.read_text().startswith(first_results)
    row = json.loads(first.out)["rows"][0]
    assert row["in the encoder"] == "the same text"
    assert set(row["loss (nats per token)"]) == {"value", "low", "high"}


def test_other_weights_do_not_continue_a_run(
    evaluate: Callable[..., Run], documents: Path, tiny_decoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy.json"
    evaluate("copy", "--documents", documents, "--limit", 1, "--out", out)
    other = evaluate("copy", "--documents", documents, "--limit", 1, "--out", out, "--model", tiny_decoder)
    assert other.code == 2
    assert "is untrained" in other.err
    assert "holds results with model" in other.err


def test_other_text_does_not_continue_a_run(
    evaluate: Callable[..., Run], documents: Path, questions: Path, tmp_path: Path
) -> None:
    for task, name, source, arguments in (
        ("needle", "haystack", documents, ["--lengths", 200, "--limit", 1, "--depths", 50, "--documents"]),
        ("qa", "questions", questions, ["--gold-only", "--distractors", 1, "--limit", 1, "--questions"]),
    ):
        text, out = tmp_path / source.name, tmp_path / f"{task}.json"
        text.write_text(source.read_text())
        first = evaluate(task, *arguments, text, "--out", out)
        moved = text.rename(tmp_path / f"moved-{source.name}")
        assert evaluate(task, *arguments, moved, "--out", out).out == first.out
        moved.write_text(source.read_text().replace("sun", "moon"))
        other = evaluate(task, *arguments, moved, "--out", out)
        assert other.code == 2
        assert f"holds results with {name} " in other.err.splitlines()[-1]


def test_mistakes_are_one_line(evaluate: Callable[..., Run], documents: Path, questions: Path, index: Path) -> None:
    for arguments, message in (
        (["qa", "--questions", questions], "one of --index, --given and --gold-only"),
        (["qa", "--questions", questions, "--gold-only", "--index", index], "one of --index, --given and --gold-only"),
        (["qa", "--questions", questions, "--gold-only", "--distractors", "x"], "--distractors must be whole numbers"),
        (["qa", "--questions", "missing.jsonl", "--gold-only"], "missing.jsonl cannot be read"),
        (["qa", "--questions", questions, "--index", index, "--method", "x"], "method: 'x' is not one of"),
        (["copy", "--documents", "missing.txt"], "cannot read missing.txt"),
        (["lm", "--documents", documents], "decoder_tokens must be between 257"),
        (["lm", "--documents", documents, "-k", "0,8"], "--k requires --index"),
        (
            ["lm", "--documents", documents, "--index", index, "--encoder-tokens", "0,8"],
            "--encoder-tokens and --ratio cannot be used with --index",
        ),
        (["lm", "--documents", documents, "--encoder-tokens", ""], "--encoder-tokens must be whole numbers"),
        (["needle", "--documents", documents, "--plot", "x.jpg"], "--plot must be a .png file"),
        (["copy", "--documents", documents, "--device", "cuda:77"], "device 'cuda:77'"),
        (["copy", "--documents", documents, "--bits", "5"], "bits: '5'"),
    ):
        done = evaluate(*arguments)
        assert done.code == 2
        assert done.out == ""
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


def test_questions_without_gold_are_left_out_with_a_notice(evaluate: Callable[..., Run], questions: Path) -> None:
    done = evaluate("qa", "--questions", questions, "--gold-only", "--distractors", "0")
    assert "1 questions without a gold passage are left out" in done.err
    assert "\n4 questions." in done.out


def test_a_model_behind_an_api_is_measured_as_full(
    run_command: Callable[..., tuple[int, str, str]], questions: Path, index: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    arguments = ["--questions", questions, "--limit", 2, "--full-k", "1,3"]
    with scripted_api() as api:
        api.script = ["the moon", FINISHED]
        model = ["--model", "openai:moon", "--base-url", api.url]
        searching = ["--index", index, "--method", "bm25", "--out", out, "--json"]
        done = Run(*run_command("eval", "qa", *model, *arguments, *searching))
        assert done.code == 0, done.err
        rows = json.loads(done.out)["rows"]
        assert [(row["reader"], row["in the prompt"]) for row in rows] == [("full", "1.0"), ("full", "3.0")]
        assert [row["exact match (%)"]["value"] for row in rows] == [50.0, 50.0]
        assert f"moon at {api.url}" in out.read_text().splitlines()[0]
        for task in (["qa", "--questions", questions, "--gold-only"], ["copy", "--documents", questions]):
            done = Run(*run_command("eval", *task, *model))
            assert done.code == 2
            assert "this needs a model on this machine" in done.err


def test_rerankers_are_compared(
    run_command: Callable[..., tuple[int, str, str]], questions: Path, index: Path, tmp_path: Path
) -> None:
    reranker = save_cross_encoder(tmp_path / "reranker")
    command = ("eval", "rerank", "--questions", questions, "--index", index, "--method", "bm25", "--device", "cpu")
    done = Run(*run_command(*command, "--rerank", "none", "--rerank", reranker, "--limit", 3))
    assert done.code == 0, done.err
    header, _, none, reranked, *_ = done.out.splitlines()
    assert header.startswith("| reranker | answer in 1 |")
    assert none.startswith("| none | ")
    assert reranked.startswith(f"| {reranker} | ")


def test_a_reranker_moves_no_passage_below_its_depth(
    run_command: Callable[..., tuple[int, str, str]], questions: Path, index: Path, tmp_path: Path
) -> None:
    reranker = save_cross_encoder(tmp_path / "reranker")
    command = ("eval", "rerank", "--questions", questions, "--index", index, "--method", "bm25", "--device", "cpu")
    done = Run(*run_command(*command, "--rerank", reranker, "--depth", 1))
    assert done.code == 0, done.err
    _, _, none, reranked, *_ = (line.split(" | ")[1:-1] for line in done.out.splitlines())
    assert reranked == none
