"""How texts and questions become the words of lexical search."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tantivy

_NO_STOP_WORDS = {"arabic", "greek", "romanian", "tamil", "turkish"}
"""Languages with a stemmer but no stop words in tantivy."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""A run of Thai, Lao, Burmese, Khmer, Chinese, Japanese or Korean, in which spaces do not separate all words."""
_IGNORED = re.compile("[\u00ad\u0591-\u05bd\u05bf\u05c1-\u05c7\u0640\u064b-\u0652\u2060\ufeff]")
"""Soft hyphens, other characters without a width, and Hebrew and Arabic vowel signs."""
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]+")
_ACCENTS = re.compile("[\u0300-\u0345]+")


def question_words(question: str, language: str) -> Counter[str]:
    """The words of a question and how often each stands in it."""
    return Counter(analyzer(language).analyze(spaced(question, unigrams=False)))


def spaced(text: str, *, unigrams: bool) -> str:
    """The text as its words are indexed: scripts without spaces are divided into overlapping pairs of characters.

    It is in NFKC form, without soft hyphens, Greek accents, and Hebrew and Arabic vowel signs.

    With `unigrams`, for indexing, each character is added too, so that a question of a single character matches.
    """

    def grams(match: re.Match[str]) -> str:
        run = match[0]
        pairs = [run[at : at + 2] for at in range(len(run) - 1)]
        return f" {' '.join([*run, *pairs] if unigrams or not pairs else pairs)} "

    if text.isascii():
        return text
    text = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    text = _GREEK.sub(lambda match: _ACCENTS.sub("", unicodedata.normalize("NFD", match[0])), text)
    return _UNSPACED.sub(grams, text)


@cache
def analyzer(language: str) -> tantivy.TextAnalyzer:
    """Lower-case, stemmed words without stop words and accents."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.regex(r"\w+")).filter(Filter.lowercase())
    if language == "none":
        return builder.filter(Filter.ascii_fold()).build()
    if language not in _NO_STOP_WORDS:
        builder = builder.filter(Filter.stopword(language))
    if language == "english":  # its stemmer does not know accents: "Bronte" should find "Brontë"
        builder = builder.filter(Filter.ascii_fold())
    return builder.filter(Filter.stemmer(language)).filter(Filter.ascii_fold()).build()
