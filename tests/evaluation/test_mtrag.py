"""MTRAG's tasks: what is read of them, what the reader gets, and what the benchmark's judges get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragx.config import ReaderOptions, SamplingParams
from ragx.errors import CorpusError
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.mtrag import evaluate, read_tasks, table
from ragx.evaluation.results import Results
from ragx.rag import RAG
from ragx.reader.prompt import REFUSAL
from ragx.types import Message
from tests.evaluation.conftest import write_rows
from tests.helpers.command import RunCommand
from tests.helpers.scripted_api import FINISHED, Api, scripted_api

SNOW = "Fresh snow reflects up to 90 percent."
CONTEXT = {"document_id": "d7-0-99", "title": "Snow", "text": SNOW, "score": 12.5, "source": ""}
ASKED = [
    {"speaker": "user", "text": "What is snow?"},
    {"speaker": "agent", "text": "Frozen water."},
    {"speaker": "user", "text": "How much does it reflect?"},
]
ROWS: list[dict[str, Any]] = [
    {
        "task_id": "c::2",
        "input": ASKED,
        "contexts": [CONTEXT],
        "targets": [{"speaker": "agent", "text": "Up to 90 percent."}],
        "answerability": ["ANSWERABLE"],
        "Multi-Turn": float("nan"),
    },
    {
        "task_id": "c::1",
        "input": ASKED[:1],
        "contexts": [],
        "targets": [{"text": "I do not know."}],
        "answerability": ["UNANSWERABLE"],
    },
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "tasks.jsonl", ROWS)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with scripted_api() as running:
        running.script = ["It reflects up to 90 percent.", FINISHED]
        yield running


def test_a_task_is_a_question_after_its_history(tasks: Path) -> None:
    second, first = read_tasks(tasks)
    assert second.question == "How much does it reflect?"
    assert second.history == [Message("user", "What is snow?"), Message("assistant", "Frozen water.")]
    assert [(hit.passage.document, hit.passage.title, hit.passage.text, hit.score) for hit in second.hits] == [
        ("d7-0-99", "Snow", SNOW, 12.5)
    ]
    assert (second.targets, second.answerability) == (["Up to 90 percent."], "answerable")
    assert (first.key, first.history, first.hits, first.answerability) == ("c::1", [], [], "unanswerable")


@pytest.mark.parametrize(
    "change",
    [
        {"input": []},
        {"input": ASKED[:2]},
        {"input": "What?"},
        {"contexts": [{"text": SNOW}]},
        {"targets": [{}]},
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_rows(tmp_path / "tasks.jsonl", [ROWS[0], ROWS[1] | change])
    with pytest.raises(CorpusError, match=r"tasks\.jsonl:2 is no task of MTRAG"):
        read_tasks(path)


def test_a_file_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no task"):
        read_tasks(write_rows(tmp_path / "tasks.jsonl", []))


def test_the_command_reads_contexts_and_writes_predictions(
    run_command: RunCommand, api: Api, tasks: Path, tmp_path: Path
) -> None:
    out, predictions = tmp_path / "raw.jsonl", tmp_path / "predictions.jsonl"
    command = ("eval", "mtrag", "--tasks", tasks, "--model", "openai:snow-1", "--base-url", api.url)
    done = run_command(*command, "--out", out, "--predictions", predictions)
    assert done.code == 0, done.err
    first, second = ([message["content"] for message in request["messages"]] for request in api.requests)
    assert SNOW in first[-1]
    assert first[-3:-1] == ["What is snow?", "Frozen water."]
    assert SNOW not in second[-1]
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [row.pop("predictions") for row in rows] == [[{"text": "It reflects up to 90 percent."}]] * 2
    assert json.dumps(rows) == json.dumps(ROWS)
    assert [line.split("|")[1].strip() for line in done.out.splitlines()[2:5]] == ["answerable", "unanswerable", "all"]
    again = run_command(*command, "--out", out)
    assert (again.out, len(api.requests)) == (done.out, 2)


def test_an_index_takes_the_place_of_the_contexts(
    run_command: RunCommand, index: Path, api: Api, tasks: Path, tmp_path: Path
) -> None:
    predictions = tmp_path / "predictions.jsonl"
    model = ("--model", "openai:snow-1", "--base-url", api.url)
    done = run_command(
        *("eval", "mtrag", "--tasks", tasks, *model, "--index", index, "--method", "bm25"),
        *("--k", 2, "--predictions", predictions, "--limit", 1),
    )
    assert done.code == 0, done.err
    (row,) = map(json.loads, predictions.read_text().splitlines())
    assert 1 <= len(row["contexts"]) <= 2
    assert all(context["document_id"] and context["text"] for context in row["contexts"])
    assert row["contexts"][0]["text"] in api.requests[0]["messages"][-1]["content"]


def test_figures_are_by_answerability(tasks: Path) -> None:
    turns = read_tasks(tasks)
    known = Results(None, {})
    for turn, answer, refused in ((turns[0], "up to 90 percent", False), (turns[1], REFUSAL, True)):
        values = {
            "answer": answer,
            "contexts": None,
            "f1": float(not refused),
            "refused": refused,
            "cited": not refused,
        }
        known.measure("mtrag", turn.key, lambda values=values: values)
    measured = evaluate(RAG(None, {}), turns, known, k=None, options=ReaderOptions(), sampling=SamplingParams())
    rows = {
        row[0]: [cell.value if isinstance(cell, Estimate) else cell for cell in row[1:]]
        for row in table(turns, measured).rows
    }
    assert rows == {
        "answerable": [1, 100.0, 0.0, 100.0],
        "unanswerable": [1, 0.0, 100.0, 0.0],
        "all": [2, 50.0, 50.0, 50.0],
    }


def test_without_references_there_is_no_f1(run_command: RunCommand, api: Api, tmp_path: Path) -> None:
    row = {name: value for name, value in ROWS[0].items() if name != "targets"}
    command = ("eval", "mtrag", "--model", "openai:snow-1", "--base-url", api.url, "--json", "--tasks")
    done = run_command(*command, write_rows(tmp_path / "tasks.jsonl", [row]))
    assert [each["F1 (%)"] for each in json.loads(done.out)["rows"]] == [None, None]
    del row["contexts"]
    done = run_command(*command, write_rows(tmp_path / "bare.jsonl", [row]))
    assert (done.code, "give an --index" in done.err, len(api.requests)) == (2, True, 1)


def test_predictions_that_cannot_be_written_are_one_line(run_command: RunCommand, api: Api, tasks: Path) -> None:
    command = ("eval", "mtrag", "--tasks", tasks, "--model", "openai:snow-1", "--base-url", api.url)
    done = run_command(*command, "--predictions", "/no-such-folder/p.jsonl")
    assert (done.code, "cannot write /no-such-folder" in done.err) == (2, True)
