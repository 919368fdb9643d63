"""How an answer compares with gold answers; the best match counts.

Exact match, F1 and normalisation are SQuAD's (Rajpurkar et al., EMNLP 2016).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, the articles a, an and the, and repeated spaces."""
    without_articles = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(without_articles.split())


def exact_match(text: str, answers: Sequence[str]) -> bool:
    """Whether `text` equals one of the answers after normalisation."""
    return normalise(text) in map(normalise, answers)


def f1(text: str, answers: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over normalised words, against the answer that maximises it."""
    return max((_f1(normalise(text).split(), normalise(answer).split()) for answer in answers), default=0.0)


def contains(text: str, answers: Sequence[str]) -> bool:
    """Whether the normalised text contains a normalised answer as whole words.

    An answer that normalisation empties is in no text.
    """
    return contains_normalised(normalise(text), answers)


def contains_normalised(text: str, answers: Sequence[str]) -> bool:
    """As `contains`, for a normalised text."""
    padded = f" {text} "
    return any(f" {answer} " in padded for answer in map(normalise, answers) if answer)


def _f1(words: list[str], gold: list[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = sum((Counter(words) & Counter(gold)).values())
    return 2 * common / (len(words) + len(gold))  # of precision common/words and recall common/gold
