"""An answer says that no passage holds it where the hits hardly can."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from ragx import cepe
from ragx.config import ReaderOptions, SamplingParams
from ragx.reader.full import FullReader
from ragx.reader.prompt import REFUSAL
from ragx.reader.reading import read, returned
from ragx.retrieval import SearchResults
from ragx.types import Answer, Hit, Message
from ragx.util.tokenization import load_tokenizer
from tests.helpers.toy_embedders import passages

SHORT = SamplingParams(max_new_tokens=4)


@pytest.fixture(scope="module")
def reader(tiny_decoder: Path) -> FullReader:
    return FullReader(cepe.load(str(tiny_decoder), dtype="float32", device="cpu"), load_tokenizer(tiny_decoder))


def reading(
    reader: FullReader,
    likelihood: float | None,
    *,
    refuse_below: float = 0.1,
    sampling: SamplingParams = SHORT,
    history: tuple[Message, ...] = (),
) -> Generator[str, None, Answer]:
    hits = SearchResults(Hit(passage, 1.0) for passage in passages(["snow reflects light", "owls hunt at night"]))
    hits.likelihood = likelihood
    options = ReaderOptions(refuse_below=refuse_below)
    return read(reader, "Why?", hits, options=options, sampling=sampling, history=history)


def test_below_the_threshold_the_answer_is_a_refusal_with_the_hits_and_a_note(reader: FullReader) -> None:
    pieces = reading(reader, 0.04)
    assert next(pieces) == REFUSAL
    answer = returned(pieces)
    assert answer.text == REFUSAL
    assert answer.refused
    assert not answer.supported
    assert answer.likelihood == 0.04
    assert answer.citations == []
    assert len(answer.hits) == 2
    assert any("4.0%" in note and "refuse-below" in note for note in answer.notes)
    assert (answer.finish, answer.answer_tokens) == ("stop", 0)


@pytest.mark.parametrize(("likelihood", "refuse_below"), [(0.1, 0.1), (0.9, 0.1), (0.0, 0.0), (None, 1.0)], ids=str)
def test_otherwise_the_question_is_answered(likelihood: float | None, refuse_below: float, reader: FullReader) -> None:
    answer = returned(reading(reader, likelihood, refuse_below=refuse_below))
    assert not answer.refused
    assert answer.likelihood == likelihood
    assert answer.answer_tokens > 0


def test_follow_up_questions_and_forms_are_never_refused(reader: FullReader) -> None:
    history = (Message("user", "What is albedo?"), Message("assistant", "It is reflected light."))
    assert not returned(reading(reader, 0.0, history=history)).refused
    schema = SamplingParams(max_new_tokens=4, json_schema='{"type": "string"}')
    assert not returned(reading(reader, 0.0, sampling=schema)).refused
