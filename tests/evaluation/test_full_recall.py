"""How many questions have all their passages among the hits."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.corpus.questions import Question, parse_question
from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.full_recall import evaluate
from ragx.evaluation.results import Results
from ragx.index import Index
from ragx.types import Hit
from tests.evaluation.conftest import write_rows
from tests.helpers.articles import ARTICLES, BRIDGE, FIRST, LAST, QUESTION, build_articles
from tests.helpers.command import RunCommand


@pytest.fixture(scope="module")
def articles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_articles(tmp_path_factory.mktemp("index") / "articles")


def row(text: str, *gold: str, **texts: str) -> dict[str, object]:
    contexts = [{"title": title, "text": texts.get(title, ARTICLES.get(title)), "is_gold": True} for title in gold]
    return {"question": text, "answers": ["Mossby"], "ctxs": [*contexts, {"title": "Rain", "text": "It falls."}]}


def question(text: str, *gold: str, **texts: str) -> Question:
    return parse_question(row(text, *gold, **texts))


def test_full_recall_by_number_of_needed_passages(articles: Path) -> None:
    index = Index.open(articles)
    hits = [Hit(passage, 0.0) for passage in index.live_passages()]
    questions = [
        question("one", FIRST),
        question("two", FIRST, BRIDGE),
        question("two more", BRIDGE, LAST, **{LAST: f"{ARTICLES[LAST]}  It has\nan inn."}),  # the index has a part
        question("not there", FIRST, LAST, **{LAST: "Another text."}),
        Question("none", ["a"], [], []),
    ]
    table = evaluate(
        questions, index, {"low": lambda _: hits[:2], "medium": lambda _: hits[:3]}, Results(None, {}), k=3
    )
    figures = [[cell.value if isinstance(cell, Estimate) else cell for cell in each[:-1]] for each in table.rows]
    assert figures == [
        [1, 1, "low", 100.0, 100.0],
        [1, 1, "medium", 100.0, 100.0],
        [2, 2, "low", 50.0, 75.0],
        [2, 2, "medium", 100.0, 100.0],
    ]
    assert "2 questions without" in table.notes[0]
    with pytest.raises(ConfigError, match="none of the 1 question"):
        evaluate(questions[-1:], index, {}, Results(None, {}), k=3)


def test_the_command_compares_efforts(run_command: RunCommand, articles: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "questions.jsonl", [row(QUESTION, FIRST, BRIDGE)])
    run = run_command("eval", "recall", "--questions", file, "--index", articles, "--method", "bm25", "-k", 6)
    assert run.code == 0, run.err
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in run.out.splitlines()[2:4]]
    assert rows == [
        ["2", "1", "low", "0.0 (0.0–0.0)"],
        ["2", "1", "medium", "100.0 (100.0–100.0)"],
    ]
