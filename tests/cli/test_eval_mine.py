"""`ragx eval mine` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import small_indexes
from tests.helpers.command import Run, RunCommand
from tests.helpers.scripted_api import FINISHED, refusal, scripted_api
from tests.helpers.tiny import save_reciting_decoder

TEXTS = [*(f"Fresh snow reflects light number {n}." for n in range(4)), "Dark soil absorbs the sun."]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    small_indexes.build(folder, TEXTS)
    return folder


@pytest.fixture(scope="module")
def model(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_reciting_decoder(tiny_decoder, folder, " snow? light", ends=True)
    return folder


@pytest.fixture
def mine(ragx: RunCommand, index: Path, model: Path) -> Callable[..., Run]:
    def run(*arguments: object) -> Run:
        searched = ("--index", index, "--method", "bm25", "--rerank", "none")
        return ragx("eval", "mine", *searched, "--model", model, "--max-new-tokens", 16, *arguments)

    return run


def rows(done: Run) -> dict[str, dict[str, float | None]]:
    """The figures of a table by measure and run."""
    assert done.code == 0, done.err
    return {
        row["measure"]: {run: cell and cell["value"] for run, cell in row.items() if run != "measure"}
        for row in json.loads(done.out)["rows"]
    }


def test_questions_are_written_asked_and_kept(mine: Callable[..., Run], tmp_path: Path) -> None:
    questions, out, picture = (tmp_path / name for name in ("questions.jsonl", "run.jsonl", "run.png"))
    arguments = ("-k", 3, "--questions", questions, "--out", out)
    done = mine(*arguments, "--limit", 3, "--plot", picture)
    assert done.code == 0, done.err
    assert "| recall@k (%) | 100.0 (100.0–100.0) |" in done.out
    assert "| answer contained (%) | 100.0 (100.0–100.0) |" in done.out
    assert "\n3 questions, k = 3; 95 % intervals" in done.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    kept, results = questions.read_text(), out.read_text()
    assert len(kept.splitlines()) == 3
    assert len(results.splitlines()) == 1 + 3
    out.write_text("".join(results.splitlines(keepends=True)[:2]))
    again = mine(*arguments)
    assert "3 questions" in again.out
    assert len(out.read_text().splitlines()) == 1 + 3
    assert questions.read_text() == kept
    assert mine(*arguments).out == again.out, "nothing is measured again"
    other = mine(*arguments, "-k", 2)
    assert other.code == 2
    assert "holds results with k 3, not 2" in other.err.splitlines()[-1]


def test_two_runs_are_compared(mine: Callable[..., Run], tmp_path: Path) -> None:
    questions, first, picture = (tmp_path / name for name in ("questions.jsonl", "first.jsonl", "runs.png"))
    questions.write_text(
        '{"question": "snow soil?", "answers": ["sun"]}\n{"question": "snow?", "answers": ["light"]}\n'
    )
    mine("-k", 1, "--questions", questions, "--out", first)
    done = mine("-k", 5, "--questions", questions, "--against", first, "--plot", picture, "--json")
    found = rows(done)
    assert found["recall@k (%)"]["this run"] == 100
    assert found["answer contained (%)"] == {"this run": 50, "other run": 50, "difference": 0}
    assert "k 5 against 1" in json.loads(done.out)["notes"][-1]
    assert picture.exists()


def test_a_model_behind_an_api_writes_and_answers(
    ragx: RunCommand, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    questions, out = tmp_path / "questions.jsonl", tmp_path / "run.jsonl"
    with scripted_api() as api:
        api.script = ["What reflects snow? The light.", FINISHED]
        searched = ("--index", index, "--method", "bm25", "--rerank", "none")
        model = ("--model", "openai:snow", "--base-url", api.url)
        kept = ("--questions", questions, "--out", out)
        done = ragx("eval", "mine", *searched, *model, *kept, "--limit", 2, "--json")
        assert rows(done)["answer contained (%)"] == {"this run": 100}
        api.refusals = [refusal(401, "wrong key")]
        questions.write_text(questions.read_text() + '{"question": "soil?", "answers": ["sun"]}\n')
        failed = ragx("eval", "mine", *searched, *model, *kept)
        assert failed.code == 4
        assert failed.out == ""
        assert rows(ragx("eval", "mine", *searched, *model, *kept, "--json"))["seconds, median"]["this run"]
    assert len(out.read_text().splitlines()) == 1 + 3


def test_mistakes_are_one_line(mine: Callable[..., Run], tiny_decoder: Path, tmp_path: Path) -> None:
    rows_of_questions = tmp_path / "questions.jsonl"
    rows_of_questions.write_text('{"question": "snow?", "answers": ["light"]}\n')
    asked, missing = ("--questions", rows_of_questions), tmp_path / "missing.jsonl"
    for arguments, message in (
        (("--out", tmp_path / "run.jsonl"), "--out and --against need --questions"),
        (("--against", missing), "--out and --against need --questions"),
        ((*asked, "--against", missing), "missing.jsonl: No such file"),
        ((*asked, "--against", rows_of_questions), "does not hold results"),
        ((*asked, "--plot", tmp_path / "run.jpg"), "--plot must be a .png file"),
        ((*asked, "-k", 0), "k: must be greater than or equal to 1"),
        ((*asked, "--where", "colour==1"), "colour"),
        (("--questions", tmp_path), "cannot be read"),
        (("--model", tiny_decoder, "--limit", 1), "none of the model's questions about 5 passages"),
        (("--index", tmp_path / "none"), "none"),
    ):
        done = mine(*arguments)
        assert done.code == 2
        assert done.out == ""
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err
