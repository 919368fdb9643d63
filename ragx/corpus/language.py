"""Whether the texts of a corpus are clearly not in English, told by the script and by English function words.

`python -m benchmarks.languages` measures it.
"""

from __future__ import annotations

import re
from typing import Literal

_SAMPLE_CHARS = 5000
"""Of a document."""
_SENTENCE = re.compile(r"\b[^\W\d_]+(?:,? [^\W\d_]+){6,}")
"""Words with nothing but spaces and commas between them; source code and tables have few such runs."""
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_WORDS = 30
"""Fewer do not tell the language of a text."""
_FUNCTION_WORDS = frozenset((
    "the", "of", "and", "to", "is", "that", "for", "with", "this", "from", "are", "be", "by", "or", "not", "you", "it",
    "on", "as", "at", "an", "in", "was", "have", "has", "which", "can", "will", "if", "but", "his", "they",
    "their", "when",
))  # fmt: skip
_ENGLISH = 0.12
"""Share of these words in an English text: usually 0.4, in other languages at most 0.1."""
_LATIN_END = "\u0250"
_LEAST_LETTERS = 100
_ENOUGH = 1000
"""Documents that are judged; further ones are not looked at."""


class LanguageCheck:
    """Counts the documents that are in English and in other languages."""

    def __init__(self) -> None:
        self.english = 0
        self.other = 0

    def add(self, text: str) -> None:
        """Count a document, if its language can be told and not enough are known."""
        if self.english + self.other < _ENOUGH and (language := judge(text[:_SAMPLE_CHARS])):
            self.english += language == "english"
            self.other += language == "other"

    @property
    def is_foreign(self) -> bool:
        """Whether more documents are in other languages than in English."""
        return self.other > self.english


def judge(text: str) -> Literal["english", "other"] | None:
    """The language of a text; None if it has too few words in sentences."""
    letters = "".join(_WORD.findall(text))
    if len(letters) >= _LEAST_LETTERS and 2 * sum(letter >= _LATIN_END for letter in letters) > len(letters):
        return "other"
    words = [word for run in _SENTENCE.findall(text) for word in _WORD.findall(run.lower())]
    if len(words) < _LEAST_WORDS:
        return None
    return "english" if sum(word in _FUNCTION_WORDS for word in words) >= _ENGLISH * len(words) else "other"
