"""Each row of a QA table is what its reader answers to the same questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ragx.corpus.questions import Question
from ragx.errors import ConfigError
from ragx.evaluation import metrics
from ragx.evaluation.qa import GENERATION, answered, gold_only, open_domain
from ragx.evaluation.questions import distractors, normalised_passages, read_questions
from ragx.evaluation.results import Results
from ragx.reader.base import Reader
from ragx.reader.cepe import CepeReader
from ragx.reader.full import FullReader
from ragx.retrieval import Retriever
from ragx.types import Passage


class Kept(Results):
    """Results that a test can look into."""

    def __init__(self) -> None:
        super().__init__(None, {})

    def rows(self, setting: str) -> list[dict[str, Any]]:
        return [values for (name, _), values in self._done.items() if name == setting]


@pytest.fixture(scope="module")
def asked(questions: Path) -> list[Question]:
    return read_questions(questions)[:4]


def answers(reader: Reader, asked: list[Question], passages: list[list[Passage]], prompt_passages: int) -> list[str]:
    found = []
    for question, read in zip(asked, passages, strict=True):
        reading = reader.prepare(question.text, read, prompt_passages=prompt_passages, sampling=GENERATION)
        found.append("".join(reader.stream(reading, GENERATION)).strip())
    return found


def test_open_domain(reader: CepeReader, asked: list[Question], retriever: Retriever) -> None:
    results = Kept()
    table = open_domain(reader, asked, retriever, "bm25", results, cepe_k=[1, 4], full_k=[2], prompt_passages=1)
    assert [row[:3] for row in table.rows] == [["cepe", 1, "1.0"], ["cepe", 4, "1.0"], ["full", 2, "2.0"]]
    hits = [[hit.passage for hit in retriever.search(question.text, 4, "bm25")] for question in asked]
    full = FullReader(reader.model, reader.tokenizer)
    for setting, expected in (
        ("cepe k=1 prompt_passages=1", answers(reader, asked, [read[:1] for read in hits], 1)),
        ("cepe k=4 prompt_passages=1", answers(reader, asked, hits, 1)),
        ("full k=2", answers(full, asked, [read[:2] for read in hits], 2)),
    ):
        assert [row["answer"] for row in results.rows(setting)] == expected
    recall = [row[-1].value for row in table.rows]  # type: ignore[union-attr]
    known = [
        [metrics.contains(passage.text, question.answers) for passage in read]
        for question, read in zip(asked, hits, strict=True)
    ]
    assert recall == [25.0 * sum(any(flags[:k]) for flags in known) for k in (1, 4, 2)]
    assert max(recall) == 75.0  # the index knows three of the four answers


def test_gold_only(reader: CepeReader, asked: list[Question]) -> None:
    results, every, asked = Kept(), asked, asked[:2]
    table = gold_only(reader, asked, every, results, counts=[0, 2])
    assert [row[0] for row in table.rows] == [
        "closed book: the question alone",
        "closed book: as below, without passages",
        "cepe: gold and 0 distractors in the encoder",
        "cepe: gold and 2 distractors in the encoder",
        "full: gold in the prompt",
    ]
    pool = normalised_passages(every)
    full = FullReader(reader.model, reader.tokenizer)
    gold = [question.gold for question in asked]
    mixed = [[*question.gold, *distractors(question, pool, 2)] for question in asked]
    for setting, expected in (
        ("closed book: as below, without passages", answers(full, asked, [[]] * 2, 0)),
        ("cepe: gold and 0 distractors in the encoder", answers(reader, asked, gold, 0)),
        ("cepe: gold and 2 distractors in the encoder", answers(reader, asked, mixed, 0)),
        ("full: gold in the prompt", answers(full, asked, gold, 0)),
    ):
        assert [row["answer"] for row in results.rows(setting)] == expected
    prompts = [row["prompt_passages"] for row in results.rows("cepe: gold and 2 distractors in the encoder")]
    assert prompts == [0] * 2


def test_questions_too_long_for_the_window_are_left_out_and_said(
    reader: CepeReader, asked: list[Question], retriever: Retriever
) -> None:
    long = replace(asked[0], text=asked[0].text * 400)
    tables = [
        open_domain(reader, [long, asked[0]], retriever, "bm25", Kept(), cepe_k=[1], full_k=[1], prompt_passages=1),
        gold_only(reader, [long, asked[0]], asked, Kept(), counts=[0]),
    ]
    for table in tables:
        assert table.notes[0].startswith("1 questions (1 more are too long for the decoder's window)")
    with pytest.raises(ConfigError, match="none of the questions fits into the decoder's window of 512 tokens"):
        gold_only(reader, [long], asked, Kept(), counts=[0])


def test_an_answer_is_kept_with_its_scores(reader: CepeReader, asked: list[Question]) -> None:
    reading = reader.prepare(asked[0].text, [], prompt_passages=0, sampling=GENERATION)
    text = "".join(reader.stream(reading, GENERATION)).strip()
    gold = Question(asked[0].text, [text[:-1], text], [], [])
    found = answered(reader, gold, reading)
    assert (found["answer"], found["exact_match"], found["f1"]) == (text, True, 1.0)
    assert found["answers"] == [text[:-1], text]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cepe_k": [0]}, "name at least one k, none of them below 1"),
        ({"cepe_k": [], "full_k": []}, "name at least one k"),
        ({"prompt_passages": -1}, "prompt_passages must not be negative"),
    ],
)
def test_numbers_out_of_range(
    reader: CepeReader, asked: list[Question], retriever: Retriever, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"cepe_k": [1], "full_k": [1], "prompt_passages": 1} | changes
    with pytest.raises(ConfigError, match=message):
        open_domain(reader, asked, retriever, "bm25", Results(None, {}), **arguments)
    with pytest.raises(ConfigError, match="distractors must not be negative, as -2 is"):
        gold_only(reader, asked, asked, Results(None, {}), counts=[-2])
