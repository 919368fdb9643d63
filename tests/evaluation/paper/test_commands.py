"""`ragx eval paper` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.conftest import text, write_rows
from tests.helpers.command import RunCommand


@pytest.fixture
def qa(tmp_path: Path) -> Path:
    rows = [{"question": f"{n}?", "answer": "x", "ctxs": [{"title": "T", "text": text(n, 5)}]} for n in range(3)]
    return write_rows(tmp_path / "qa.jsonl", rows)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"text": text(n, 120), "passages": [text(10 + n, 9)]} for n in range(2)]
    return write_rows(tmp_path / "texts.jsonl", rows)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "moods.jsonl", [{"text": text(n, 4), "label": f"l{n % 2}"} for n in range(4)])


def test_each_table(
    run_command: RunCommand, reader_folder: Path, documents: Path, qa: Path, texts: Path, labelled: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rouge_score")
    stories = write_rows(tmp_path / "s.jsonl", [{"input": text(0, 99), "question": "Why?", "answers": ["snow"]}])
    for table, arguments, rows in (
        ("table1", ["--documents", documents, "--tokens", 300, "--decoder-tokens", 270, "--each", 1], 3),
        ("table3", ["--train", labelled, "--test", labelled, "--decoder-shots", 1, "--encoder-shots", "1,2"], 3),
        ("table6", ["--documents", documents, "--tokens", 300, "--strides", "30,50", "--each", 1], 2),
        ("table2", ["--documents", texts, "--tokens", 150, "--query", 30, "-k", "0,1"], 4),
        (
            "table4",
            ["--data", f"qasper={stories}", "--tokens", "90,all", "--decoder-tokens", 90, "--answer-tokens", 3],
            2,
        ),
        ("needle", ["--documents", documents, "--lengths", "260,400", "--depths", 2, "--decoder-tokens", 300], 3),
        ("table7", ["--questions", qa, "--k", 1, "--max-new-tokens", 2, "--limit", 2], 4),
    ):
        out, save = tmp_path / f"{table}.jsonl", tmp_path / table
        run = run_command(
            *("eval", "paper", table, "--model", reader_folder, "--device", "cpu", "--dtype", "float32"),
            *("--embedder", "none", "--out", out, "--save", save, *map(str, arguments)),
        )
        assert run.code == 0, run.err
        lines = run.out.splitlines()
        assert [line.startswith("|") for line in lines] == [True] * (rows + 2) + [False] * 2, run.out
        assert save.with_suffix(".png").exists() == (table in {"table1", "needle"})
        assert save.with_suffix(".tex").read_text().count("\\\\") == rows + 1
        first, *raw = map(json.loads, out.read_text().splitlines())
        assert first["run"]["task"] == f"paper, {'table1' if table == 'table6' else table}"
        assert all(str(reader_folder) in row["setting"] for row in raw)


def test_replug_needs_no_other_embedder_than_the_indexs(
    run_command: RunCommand, reader_folder: Path, index: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text(0, 120)}])
    arguments = ("--documents", rows, "--tokens", "150", "--query", "30", "-k", "2", "--reader", "replug")
    searching = ("--index", index, "--method", "bm25", "--device", "cpu", "--embedder", "not-a-model")
    run = run_command("eval", "paper", "table2", "--model", reader_folder, *arguments, *searching)
    assert run.code == 0, run.err
    assert "replug" in run.out


def test_mistakes(run_command: RunCommand, reader_folder: Path, qa: Path) -> None:
    start = ("eval", "paper", "table7", "--model", reader_folder, "--questions", qa)
    for arguments, message in (
        (("--reader", "cepe,other"), "--reader must be of cepe, full, replug, streaming, extensible, got 'other'"),
        (("--demonstrations", qa, "--demonstrations", qa), "as many --demonstrations as --questions"),
        (("-k", "0"), "k must be at least 1"),
        (("--encode", "none"), "encode"),
    ):
        run = run_command(*start, *arguments)
        assert run.code == 2
        assert message in run.err.splitlines()[-1] or message in run.err
