"""Each row of a QA table holds one reader's answers to the same questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ragx.corpus.questions import Question
from ragx.errors import ConfigError
from ragx.evaluation import metrics
from ragx.evaluation.bootstrap import percent
from ragx.evaluation.qa import GIVEN, SAMPLING, answer_values, gold_only, open_domain, searched
from ragx.evaluation.questions import distractors, normalised_passages, read_questions
from ragx.evaluation.results import Results
from ragx.reader.base import Reader
from ragx.reader.cepe import CepeReader
from ragx.reader.full import FullReader
from ragx.retrieval import Retriever
from ragx.types import Passage, ReaderName
from tests.helpers.tiny_cross_encoders import LengthReranker


def values_of(results: Path, setting: str, name: str) -> list[Any]:
    """A value of each example, from a file of raw results."""
    lines = [json.loads(line) for line in results.read_text().splitlines()[1:]]
    return [line["values"][name] for line in lines if line["setting"] == setting]


@pytest.fixture(scope="module")
def four_questions(questions: Path) -> list[Question]:
    return read_questions(questions)[:4]


def answers(
    reader: Reader, questions: Sequence[Question], passages: Sequence[list[Passage]], prompt_passages: int
) -> list[str]:
    texts = []
    for question, read in zip(questions, passages, strict=True):
        prepared = reader.prepare(question.text, read, prompt_passages=prompt_passages, sampling=SAMPLING)
        texts.append(reader.decode(prepared, SAMPLING))
    return texts


def readers(cepe: CepeReader) -> dict[ReaderName, Reader]:
    return {"cepe": cepe, "full": FullReader(cepe.model, cepe.tokenizer)}


def test_open_domain(reader: CepeReader, four_questions: list[Question], retriever: Retriever, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    table = open_domain(
        readers(reader),
        four_questions,
        searched(retriever, "bm25"),
        Results(results, {}),
        cepe_k=[1, 4],
        full_k=[2],
        prompt_passages=[0, 1],
    )
    rows = [["cepe", 1, "0.0"], ["cepe", 1, "1.0"], ["cepe", 4, "0.0"], ["cepe", 4, "1.0"], ["full", 2, "2.0"]]
    assert [row[:3] for row in table.rows] == rows
    hits = [[hit.passage for hit in retriever.search(question.text, 4, "bm25")] for question in four_questions]
    full = FullReader(reader.model, reader.tokenizer)
    for setting, expected in (
        ("cepe k=1 prompt_passages=1", answers(reader, four_questions, [read[:1] for read in hits], 1)),
        ("cepe k=4 prompt_passages=0", answers(reader, four_questions, hits, 0)),
        ("cepe k=4 prompt_passages=1", answers(reader, four_questions, hits, 1)),
        ("full k=2", answers(full, four_questions, [read[:2] for read in hits], 2)),
    ):
        assert values_of(results, setting, "answer") == expected
    recall = [row[-1].value for row in table.rows]  # type: ignore[union-attr]
    known = [
        [metrics.contains(passage.text, question.answers) for passage in read]
        for question, read in zip(four_questions, hits, strict=True)
    ]
    assert recall == [25.0 * sum(any(flags[:k]) for flags in known) for k in (1, 1, 4, 4, 2)]
    assert max(recall) == 75.0  # the index knows three of the four answers


def test_the_gain_is_over_the_best_plain_decoder(
    reader: CepeReader, four_questions: list[Question], retriever: Retriever, tmp_path: Path
) -> None:
    known = Results(tmp_path / "results.jsonl", {})
    contained = {  # of four questions
        "cepe k=1 prompt_passages=0": [1, 1, 1, 0],
        "full k=1": [1, 0, 0, 0],
        "full k=2": [0, 0, 1, 1],
    }
    scores = {"prompt_passages": 0, "exact_match": False, "f1": 0.0, "recall": True}
    for setting, flags in contained.items():
        for question, flag in zip(four_questions, flags, strict=True):
            known.measure(setting, question.key, lambda flag=flag: scores | {"contains": bool(flag)})
    numbers = {"cepe_k": [1], "full_k": [1, 2], "prompt_passages": [0]}
    table = open_domain(readers(reader), four_questions, searched(retriever, "bm25"), known, **numbers)
    gains = [row[list(table.columns).index("above full")] for row in table.rows]
    assert gains == [percent([1, 1, 0, -1]), None, None]
    assert "k = 2" in table.notes[1]


def test_the_reranked_passages_are_read(
    reader: CepeReader, four_questions: list[Question], retriever: Retriever, tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    table = open_domain(
        *(readers(reader), four_questions, searched(retriever, "bm25", LengthReranker()), Results(results, {})),
        cepe_k=[1],
        full_k=[2],
        prompt_passages=[1],
    )
    longest = []
    for question in four_questions:
        found = [hit.passage for hit in retriever.search(question.text, 20, "bm25")]
        longest.append(sorted(found, key=lambda passage: -len(passage.text))[:2])
    full = FullReader(reader.model, reader.tokenizer)
    assert values_of(results, "full k=2", "answer") == answers(full, four_questions, longest, 2)
    assert "bm25 search, reranked by longest." in table.notes[0]


def test_passages_far_from_the_best_one_are_not_read(
    reader: CepeReader, four_questions: list[Question], retriever: Retriever, tmp_path: Path
) -> None:
    source = searched(retriever, "bm25", LengthReranker(), within=0)
    table = open_domain(
        *(readers(reader), four_questions, source, Results(tmp_path / "results.jsonl", {})),
        cepe_k=[4],
        full_k=[4],
        prompt_passages=[4],
    )
    for question in four_questions:
        read = source.find(question, 4)
        assert {len(passage.text) for passage in read} == {max(len(passage.text) for passage in read)}
    assert "at most 0 below the best" in table.notes[0]


def test_given_passages_are_read_in_their_order(
    reader: CepeReader, four_questions: list[Question], tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    gold = [question.gold[0] for question in four_questions]
    asked = [replace(question, passages=[gold[3], gold[0], gold[1]]) for question in four_questions]
    table = open_domain(
        readers(reader), asked, GIVEN, Results(results, {}), cepe_k=[3], full_k=[2], prompt_passages=[1]
    )
    full = FullReader(reader.model, reader.tokenizer)
    read = [question.passages for question in asked]
    assert values_of(results, "cepe k=3 prompt_passages=1", "answer") == answers(reader, asked, read, 1)
    assert values_of(results, "full k=2", "answer") == answers(full, asked, [each[:2] for each in read], 2)
    assert "each question's own" in table.notes[0]


def test_gold_only(reader: CepeReader, four_questions: list[Question], tmp_path: Path) -> None:
    results, two_questions = tmp_path / "results.jsonl", four_questions[:2]
    table = gold_only(reader, two_questions, four_questions, Results(results, {}), counts=[0, 2])
    assert [row[0] for row in table.rows] == [
        "closed book: the question alone",
        "closed book: as below, without passages",
        "cepe: gold and 0 distractors in the encoder",
        "cepe: gold and 2 distractors in the encoder",
        "full: gold in the prompt",
    ]
    pool = normalised_passages(four_questions)
    full = FullReader(reader.model, reader.tokenizer)
    gold = [question.gold for question in two_questions]
    mixed = [[*question.gold, *distractors(question, pool, 2)] for question in two_questions]
    for setting, expected in (
        ("closed book: as below, without passages", answers(full, two_questions, [[]] * 2, 0)),
        ("cepe: gold and 0 distractors in the encoder", answers(reader, two_questions, gold, 0)),
        ("cepe: gold and 2 distractors in the encoder", answers(reader, two_questions, mixed, 0)),
        ("full: gold in the prompt", answers(full, two_questions, gold, 0)),
    ):
        assert values_of(results, setting, "answer") == expected
    assert values_of(results, "cepe: gold and 2 distractors in the encoder", "prompt_passages") == [0, 0]


def test_questions_too_long_for_the_window_are_left_out_and_noted(
    reader: CepeReader, four_questions: list[Question], retriever: Retriever
) -> None:
    long = replace(four_questions[0], text=four_questions[0].text * 400)
    questions, unsaved = [long, four_questions[0]], Results(None, {})
    tables = [
        open_domain(
            readers(reader),
            questions,
            searched(retriever, "bm25"),
            unsaved,
            cepe_k=[1],
            full_k=[1],
            prompt_passages=[1],
        ),
        gold_only(reader, questions, four_questions, unsaved, counts=[0]),
    ]
    for table in tables:
        assert table.notes[0].startswith("1 questions (1 more are too long for the decoder's window)")
    with pytest.raises(ConfigError, match="none of the questions fits"):
        gold_only(reader, [long], four_questions, Results(None, {}), counts=[0])


def test_an_answer_is_kept_with_its_scores(reader: CepeReader, four_questions: list[Question]) -> None:
    prepared = reader.prepare(four_questions[0].text, [], prompt_passages=0, sampling=SAMPLING)
    text = reader.decode(prepared, SAMPLING)
    gold = Question(four_questions[0].text, [text[:-1], text], [], [])
    values = answer_values(reader, gold, prepared)
    assert (values["answer"], values["exact_match"], values["f1"]) == (text, True, 1.0)
    assert values["answers"] == [text[:-1], text]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cepe_k": [0]}, "at least one k"),
        ({"cepe_k": [], "full_k": []}, "at least one k"),
        ({"prompt_passages": [1, -1]}, "prompt_passages must name"),
        ({"prompt_passages": []}, "prompt_passages must name"),
    ],
)
def test_numbers_out_of_range(
    reader: CepeReader, four_questions: list[Question], retriever: Retriever, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"cepe_k": [1], "full_k": [1], "prompt_passages": [1]} | changes
    with pytest.raises(ConfigError, match=message):
        open_domain(readers(reader), four_questions, searched(retriever, "bm25"), Results(None, {}), **arguments)
    with pytest.raises(ConfigError, match="distractors must not be negative"):
        gold_only(reader, four_questions, four_questions, Results(None, {}), counts=[-2])
