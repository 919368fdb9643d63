"""Exact match, F1 and containment against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.evaluation.metrics import contains, exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("  an  apple,\na day ", "apple day"),
        ("U.S.A.", "usa"),
        ("theatre", "theatre"),
        ("the", ""),
        ("don't", "dont"),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_normalised_text_has_single_spaces(text: str) -> None:
    assert " ".join(normalise(text).split()) == normalise(text)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("The moon.", ["moon"], True),
        ("moon", ["sun", "the Moon"], True),
        ("It is the moon.", ["moon"], False),
        ("", ["moon"], False),
        ("the", ["a"], True),
        ("moon", [], False),
    ],
)
def test_exact_match(text: str, answers: list[str], expected: bool) -> None:
    assert exact_match(text, answers) is expected


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("the moon", ["moon"], 1.0),
        ("it is the moon", ["moon"], 0.5),  # precision 1/3, recall 1
        ("red red moon", ["red moon rock"], 2 / 3),  # 2 in common of 3 and 3: a repeated word counts once
        ("red moon", ["green sun", "red sun"], 0.5),
        ("sun", ["moon"], 0.0),
        ("", ["moon"], 0.0),
        ("the", ["a"], 1.0),
        ("moon", [], 0.0),
    ],
)
def test_f1(text: str, answers: list[str], expected: float) -> None:
    assert f1(text, answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("It is the Moon, they say.", ["the moon"], True),
        ("In 1956 it was.", ["5"], False),
        ("moonlight", ["moon"], False),
        ("red moon", ["sun", "moon"], True),
        ("anything", ["the"], False),
        ("", ["moon"], False),
    ],
)
def test_only_whole_words_count_as_contained(text: str, answers: list[str], expected: bool) -> None:
    assert contains(text, answers) is expected


@given(st.text(), st.text(min_size=1))
def test_an_exact_match_has_the_highest_scores(text: str, answer: str) -> None:
    if exact_match(text, [answer]):
        assert f1(text, [answer]) == 1.0
        assert contains(text, [answer]) or not normalise(answer)
    assert 0 <= f1(text, [answer]) <= 1
