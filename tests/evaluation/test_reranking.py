"""Rerankers compared on questions whose first passage with an answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ragx.corpus.questions import Question
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.questions import spread
from ragx.evaluation.reranking import evaluate
from ragx.evaluation.results import Results
from ragx.types import Hit
from tests.helpers.tiny_cross_encoders import FailingReranker, LengthReranker
from tests.helpers.toy_embedders import passages

TEXTS = ["sun", "a lot of snow", "the rain in the north is cold", "soil", *["light"] * 8]


def question(answer: str, number: int = 0) -> Question:
    return Question(f"Which? {number}", [answer], [], [])


def search(text: str, k: int) -> Sequence[Hit]:
    return [Hit(passage, 0.0) for passage in passages(TEXTS)[:k]]


def figures(row: Sequence[object]) -> list[object]:
    return [round(cell.value, 4) if isinstance(cell, Estimate) else cell for cell in row]


QUESTIONS = [question("sun"), question("the snow"), question("Rain"), question("soil", 3), question("moon")]
"""Their answers are in passages 1 to 4, and in none. The longest first: 3, 2, 5 to 12 of those reranked, 4, 1."""


def test_ranks_without_and_with_a_reranker() -> None:
    table = evaluate(QUESTIONS, search, [LengthReranker(depth=4)], Results(None, {}))
    none, longest = table.rows
    assert figures(none) == ["none", 20.0, 60.0, 80.0, 80.0, round((1 + 1 / 2 + 1 / 3 + 1 / 4) / 5, 4), None]
    assert figures(longest)[:-1] == ["longest", 20.0, 60.0, 80.0, 80.0, round((1 / 4 + 1 / 2 + 1 + 1 / 3) / 5, 4)]
    assert isinstance(longest[-1], Estimate)
    assert longest[-1].value > 0
    assert list(table.columns) == [
        "reranker", "answer in 1", "answer in 3", "answer in 5", "answer in 10", "MRR", "ms added",
    ]  # fmt: skip


def test_passages_below_the_reranker_s_depth_keep_their_places() -> None:
    (_, longest) = evaluate([question("the snow")], search, [LengthReranker(depth=1)], Results(None, {})).rows
    assert figures(longest)[1:6] == [0.0, 100.0, 100.0, 100.0, 0.5]


def test_more_passages_are_searched_for_a_deeper_reranker() -> None:
    asked = []

    def counting(text: str, k: int) -> Sequence[Hit]:
        asked.append(k)
        return search(text, k)

    evaluate(QUESTIONS, counting, [LengthReranker(depth=12), LengthReranker(depth=3)], Results(None, {}))
    assert set(asked) == {12}


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    whole = evaluate(QUESTIONS, search, [LengthReranker()], Results(tmp_path / "results.jsonl", {}))
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * len(QUESTIONS)
    (tmp_path / "results.jsonl").write_text("".join(lines[:4]))
    again = evaluate(QUESTIONS, search, [LengthReranker()], Results(tmp_path / "results.jsonl", {}))
    assert [figures(row)[:-1] for row in again.rows] == [figures(row)[:-1] for row in whole.rows]
    assert (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)[:4] == lines[:4]


def test_a_reranker_that_fails_is_not_measured_as_none() -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate(QUESTIONS, search, [FailingReranker()], Results(None, {}))


def test_questions_are_spread_over_the_file() -> None:
    questions = [question("a", number) for number in range(10)]
    assert [int(each.text.split()[-1]) for each in spread(questions, 4)] == [0, 2, 5, 7]
    assert spread(questions, None) == spread(questions, 10) == spread(questions, 99) == questions
