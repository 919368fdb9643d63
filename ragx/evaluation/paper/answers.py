"""How the answers of Table 4 and the needle are scored: F1, multiple choice, ROUGE."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ragx.errors import ConfigError
from ragx.evaluation import metrics

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def f1(text: str, answers: Sequence[str]) -> float:
    """F1 over normalised words, best over the answers.

    An answer that normalisation would empty, such as "A", keeps its articles, and so does the text beside it. As in
    SQuAD, "no, it is not" shares a word with "no"; the released code gives it 0.
    """
    return max(
        metrics.f1(text, [answer]) if metrics.normalise(answer) else _same_words(text, answer) for answer in answers
    )


def _same_words(text: str, answer: str) -> float:
    bare, expected = (each.lower().translate(_PUNCTUATION).split() for each in (text, answer))
    return float(bool(expected) and bare == expected)


def is_chosen(text: str, choices: dict[str, str], answers: Sequence[str]) -> bool:
    """Whether a text names the right one of several choices, by its letter or by its words.

    Args:
        text: an answer such as "B", "(b)", "B. It rained", "It rained".
        choices: what the letters stand for.
        answers: the right one, in the same forms.
    """
    chosen = _letter(text, choices)
    return chosen is not None and chosen in {_letter(answer, choices) for answer in answers}


def _letter(text: str, choices: dict[str, str]) -> str | None:
    """The letter that a text names; a word such as "A" at its beginning is none."""
    named = re.search(r"\(([A-Za-z])\)", text) or re.match(r"\s*([A-Z])\s*(?:[).:,;\n]|$)", text)
    if named and named[1].upper() in choices:
        return named[1].upper()
    by_words = [letter for letter, words in choices.items() if words and metrics.contains(text, [words])]
    return by_words[0] if len(by_words) == 1 else None


def rouge(measure: str, text: str, answers: Sequence[str]) -> float:
    """`rouge1` or `rougeL`: F-measure over stems, best over the answers.

    Raises:
        ConfigError: `rouge-score` is not installed.
    """
    return max(float(_scorer(measure)(answer, text)[measure].fmeasure) for answer in answers)


@cache
def _scorer(measure: str) -> Callable[[str, str], Any]:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise ConfigError("ROUGE needs rouge-score: pip install 'ragx[rouge]'") from None
    score: Callable[[str, str], Any] = RougeScorer([measure], use_stemmer=True).score
    return score


def check_rouge() -> None:
    """Raise a `ConfigError` if ROUGE cannot be computed, before hours of measuring."""
    _scorer("rougeL")
