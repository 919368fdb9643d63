"""Whether a passage supports an answer, judged by its words."""

from __future__ import annotations

from functools import lru_cache

from ragx.evaluation.metrics import normalise

_WORDS = """
about after all also and any are as at be because been before being between both but by can could did do does during
each for from had has have he her his how i if in into is it its more most no not of on one only or other our out over
she so some such than that their them then there these they this those through to up was we were what when where which
while who whose why will with would you your according answer passage passages
"""
FUNCTION_WORDS = frozenset(_WORDS.split())


@lru_cache(maxsize=4096)  # training compares many questions with the same passages
def content_words(text: str) -> frozenset[str]:
    """The words of a text that are not function words, normalised."""
    return frozenset(normalise(text).split()) - FUNCTION_WORDS


def supports(passage: str, question: str, answer: str) -> bool:
    """Whether the answer adds words to the question, and the passage contains them all."""
    added = content_words(answer) - content_words(question)
    return bool(added) and added <= content_words(passage)
