"""Rows become questions; distractors are drawn the same way every time and hold no answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.corpus.questions import Question
from ragx.errors import CorpusError
from ragx.evaluation.metrics import contains
from ragx.evaluation.questions import distractors, normalised_passages, read_questions

ROW = {"question": "Where?", "answers": ["Rome", "in Rome"], "title": "Italy", "context": "It is in Rome."}
CONTEXTS = [{"title": "A", "text": "gold one", "is_gold": True}, {"text": "not gold"}, {"text": "two", "is_gold": True}]


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_gold_is_the_context_or_what_contexts_mark_as_gold(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", ROW, "\n", ROW | {"ctxs": CONTEXTS}, {"question": "Q", "answers": ["A"]})
    first, second, third = read_questions(path)
    assert (first.text, first.answers) == ("Where?", ["Rome", "in Rome"])
    assert [(passage.title, passage.text) for passage in first.gold] == [("Italy", "It is in Rome.")]
    assert [(passage.title, passage.text) for passage in second.gold] == [("A", "gold one"), ("", "two")]
    assert [passage.text for passage in second.others] == ["not gold"]
    assert third.gold == third.others == []
    assert len({first.key, second.key, third.key}) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "q.jsonl:2 is not valid JSON"),
        ("[1]", "q.jsonl:2 is not a JSON object"),
        ({"answers": ["a"]}, "q.jsonl:2 has no `question`"),
        ({"question": " ", "answers": ["a"]}, "q.jsonl:2 has no `question`"),
        ({"question": "Q", "answers": []}, "q.jsonl:2 has no list of `answers`"),
        ({"question": "Q", "answers": "a"}, "q.jsonl:2 has no list of `answers`"),
        (ROW | {"ctxs": ["text"]}, "q.jsonl:2: `ctxs` is not a list of passages"),
        (ROW | {"ctxs": [{"title": "x"}]}, "q.jsonl:2 has a passage without a text"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_questions(written(tmp_path / "q.jsonl", ROW, row))


def test_files_without_questions(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no question"):
        read_questions(written(tmp_path / "q.jsonl"))
    with pytest.raises(CorpusError, match="No such file"):
        read_questions(tmp_path / "missing.jsonl")
    (tmp_path / "bad.jsonl.xz").write_bytes(b"no xz")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_questions(tmp_path / "bad.jsonl.xz")


@given(st.integers(0, 12), st.integers(0, 7))
def test_distractors(questions: Path, count: int, number: int) -> None:
    rows = [Question("Q?", [f"word{n % 4}"], [read_questions(questions)[n % 4].gold[0]], []) for n in range(8)]
    pool = normalised_passages(rows)
    assert len(pool) == 4
    drawn = distractors(rows[number], pool, count)
    assert drawn == distractors(rows[number], pool, count)
    assert len(drawn) == min(count, 3)
    assert len({passage.text for passage in drawn} | {rows[number].gold[0].text}) == len(drawn) + 1


def test_no_distractor_holds_an_answer(questions: Path) -> None:
    rows = read_questions(questions)[:4]
    asked = Question("Q?", ["the moon", "Bern"], [rows[3].gold[0]], [])
    drawn = distractors(asked, normalised_passages(rows), 9)
    assert drawn == [rows[2].gold[0]]
    assert not any(contains(passage.title + passage.text, asked.answers) for passage in drawn)


def test_the_questions_about_the_sample_index_are_a_hundred_with_answers() -> None:
    questions = read_questions(Path(__file__).parents[2] / "indexes" / "wikipedia-sample-questions.jsonl")
    assert len({question.text for question in questions}) == len(questions) == 100
    assert all(question.answers and question.text.endswith("?") for question in questions)
