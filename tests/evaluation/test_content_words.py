"""Whether a text supports an answer."""

from __future__ import annotations

import pytest

from ragx.evaluation.content_words import supports


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is Luanda.", True),
        ("The capital is Luanda.", True),
        ("The capital is Lisbon.", False),
        ("It is the capital.", False),  # says nothing new
    ],
)
def test_a_passage_supports_an_answer_if_it_has_the_words_that_the_question_lacks(answer: str, expected: bool) -> None:
    passage = "Luanda, on the coast, is the largest city of Angola."
    assert supports(passage, "What is the capital of Angola?", answer) is expected
