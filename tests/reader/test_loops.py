"""Loops: a text that repeats itself is noticed, one that does not never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from ragx.config import SamplingParams
from ragx.langchain import ChatModelReader
from ragx.rag import RAG
from ragx.reader.loops import LONGEST, PIECES, TIMES, LoopDetector

WORDS = st.sampled_from(["snow", "ice", "soil"])


def pieces_until_noticed(pieces: list[str]) -> int | None:
    detector = LoopDetector()
    return next((number for number, piece in enumerate(pieces, start=1) if detector.add(piece)), None)


@given(
    before=st.lists(st.integers(), unique=True, max_size=20),
    phrase=st.lists(st.integers(), unique=True, min_size=1, max_size=LONGEST),
)
def test_a_phrase_is_noticed_once_it_has_been_said_often_enough(before: list[int], phrase: list[int]) -> None:
    first = [f"before {number}" for number in before]
    said = [str(number) for number in phrase]
    enough = max(TIMES * len(said), PIECES)
    text = [*first, *(said * (enough // len(said) + 2))]
    assert pieces_until_noticed(text) == len(first) + enough


@given(st.lists(WORDS, max_size=200))
def test_a_text_is_a_loop_only_where_its_end_repeats(pieces: list[str]) -> None:
    number = pieces_until_noticed(pieces)
    seen = pieces[:number]
    repeats = any(
        len(seen) >= (most := max(TIMES * length, PIECES))
        and all(seen[-back] == seen[-back - length] for back in range(1, most - length + 1))
        for length in range(1, LONGEST + 1)
    )
    assert repeats == (number is not None)


def test_rows_of_a_table_are_no_loop() -> None:
    assert pieces_until_noticed(["|", "---"] * 30) is None
    assert pieces_until_noticed(["."] * 90) is None
    assert pieces_until_noticed(["|", " 0", " "] * 6 + ["\n"] + ["|", " 1", " "] * 6) is None


@pytest.mark.parametrize("stop_loops", [True, False])
def test_an_answer_that_loops_is_ended(stop_loops: bool) -> None:
    said = "Snow is white, " + "and it is cold, " * 50
    rag = RAG(None, {"full": ChatModelReader(GenericFakeChatModel(messages=iter([AIMessage(said)])))})
    pieces: list[str] = []
    answer = rag.ask("What is snow?", sampling=SamplingParams(stop_loops=stop_loops), on_text=pieces.append)
    assert "".join(pieces) == answer.text
    if stop_loops:
        assert answer.finish == "loop"
        assert any("repeat" in note for note in answer.notes)
        assert said.startswith(answer.text)
        assert len(answer.text) < len(said) / 2
    else:
        assert (answer.finish, answer.text) == ("stop", said.strip())
