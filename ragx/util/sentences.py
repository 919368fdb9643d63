"""Sentences of text in any language."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLOCK = 4096
"""Characters segmented at a time: sentencex's time grows with the square of a paragraph's length."""
_UNSAFE = re.compile(r"[^\S\n]|[\ud800-\udfff]")
"""Spaces beyond ASCII, on which sentencex can panic, and lone surrogates, which it cannot take."""
_MORE_BREAKS = re.compile(
    r"\n(?=[^\S\n]*\|)"  # a table row follows
    r"|(?<=[\u0e00-\u0eff]{12})\s+(?=[\u0e00-\u0eff]{12})"  # Thai and Lao: a space between two clauses, not names
)


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, list item or table row of `text`, in order and without surrounding white space.

    Together the spans hold every visible character. Sentences may run over line ends, as in wrapped prose. Sentence
    marks are those of all scripts, abbreviations those of English. A sentence of thousands of characters is divided.
    """
    start = 0
    while start < len(text):
        block = text[start : start + _BLOCK]
        ends = _sentence_ends(block)
        if start + len(block) < len(text) and len(ends) > 1 and ends[-2] >= _BLOCK // 2:
            ends.pop()  # this sentence may continue beyond the block
        block_start = start
        for end in ends:
            sentence = text[start : block_start + end]
            if visible := sentence.strip():
                first = start + sentence.index(visible)
                yield first, first + len(visible)
            start = block_start + end


def _sentence_ends(block: str) -> list[int]:
    from sentencex import get_sentence_boundaries

    text = _UNSAFE.sub(" ", block)
    try:
        ends = [sentence["end_index"] for sentence in get_sentence_boundaries("en", text)]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which is no `Exception`
            raise
        ends = []
    more = [match.end() for match in _MORE_BREAKS.finditer(block)]
    return sorted({*ends, *more, len(block)})
