"""How answers are scored, case by case."""

from __future__ import annotations

import pytest

from ragx.evaluation.paper.answers import f1, is_chosen, rouge
from ragx.evaluation.paper.long_inputs import choices

OPTIONS = "What fell?\n\n (A) A great deal of rain\n (B) Snow\n (C) Nothing at all\n (D) Snow and ice"


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("the red fox", ["A red fox."], 1.0),
        ("a red fox jumps", ["red fox"], 0.8),  # precision 2/3, recall 1
        ("wolf", ["fox", "grey wolf"], 2 / 3),
        ("No, it is not.", ["no"], 0.4),  # precision 1/4, recall 1
        ("yes", ["no"], 0.0),
        ("unanswerable", ["Unanswerable"], 1.0),
        ("", ["no"], 0.0),
        ("A", ["A"], 1.0),
        ("the", ["A"], 0.0),
        ("", ["A"], 0.0),
        ("a", ["The A", "x"], 0.0),
        ("snow snow", ["snow"], 2 / 3),
    ],
)
def test_f1(text: str, answers: list[str], expected: float) -> None:
    assert f1(text, answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("(A)", "A"),
        ("A", "A"),
        ("A.", "A"),
        ("(a) a great deal of rain", "A"),
        ("B: Snow", "B"),
        ("The answer is (C).", "C"),
        ("Nothing at all", "C"),
        ("nothing at all fell", "C"),
        ("A great deal of rain", "A"),
        ("A thing that I do not know", None),
        ("Snow", "B"),
        ("Snow and ice", None),  # holds B too
        ("D) Snow and ice", "D"),
        ("(E)", None),
        ("", None),
        ("rain", None),
    ],
)
def test_multiple_choice(text: str, right: str | None) -> None:
    options = choices(OPTIONS)
    assert [letter for letter in "ABCD" if is_chosen(text, options, [letter])] == ([] if right is None else [right])


def test_choices_and_the_forms_of_the_right_one() -> None:
    options = choices(OPTIONS)
    assert options == {"A": "A great deal of rain", "B": "Snow", "C": "Nothing at all", "D": "Snow and ice"}
    for right in ("(C) Nothing at all", "C", "Nothing at all"):
        assert is_chosen("C.", options, [right])
        assert not is_chosen("B.", options, [right])


@pytest.mark.parametrize(
    ("measure", "text", "answers", "expected"),
    [
        ("rougeL", "the cats sat on mats", ["the cat sat on the mat"], 10 / 11),  # 5 of 5 and 6 words, stemmed
        ("rougeL", "mat the on sat cat", ["the cat sat"], 0.5),  # two words in order, of 5 and 3
        ("rouge1", "mat the on sat cat", ["the cat sat"], 0.75),
        ("rougeL", "x y", ["a b", "x b"], 0.5),
        ("rouge1", "", ["a b"], 0.0),
    ],
)
def test_rouge(measure: str, text: str, answers: list[str], expected: float) -> None:
    pytest.importorskip("rouge_score")
    assert rouge(measure, text, answers) == pytest.approx(expected)
