"""Words that are cut by a hyphen at the end of a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from ragx.corpus.extract.pdf.layout import Line

_CUT = re.compile(r"(\w+(?:-\w+)*)([-\u00ad\u2010])$")
_LONGEST_WORD = 100
_BEGIN = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SPACE = re.compile("[ \t]")
_HANGING = {"and", "bzw", "oder", "or", "und"}
"""After a hyphen that stands for the end of a later word, as in "pre- and postwar"."""


def join_words(pages: Sequence[list[Line]]) -> None:
    """Move the rest of each word that is cut at the end of a line to that line, across pages too.

    The hyphen stays where it belongs to the word: before a capital or a digit, in a word with another hyphen, and where
    the file has the word with a hyphen elsewhere but not without.
    """
    lines = [line for page in pages for line in page]
    if any(_cut(line.text) for line in lines):
        known = {word for line in lines for word in _WORD.findall(_whole_words(line.text).lower())}
        for line, after in pairwise(lines):
            if match := _cut(line.text):
                _join(line, after, match, known)
    for page in pages:
        for line in page:
            line.text = line.text.replace("\u00ad", "")
        page[:] = [line for line in page if line.text.strip()]


def _cut(text: str) -> re.Match[str] | None:
    """Match the part of a word at the end of a line, and its hyphen."""
    return _CUT.search(text[-_LONGEST_WORD:]) if text[-1:] in ("-", "\u00ad", "\u2010") else None


def _whole_words(text: str) -> str:
    return text.rpartition(" ")[0] if _cut(text) else text


def _join(line: Line, after: Line, match: re.Match[str], known: set[str]) -> None:
    rest, *others = _SPACE.split(after.text, maxsplit=1)
    if not rest[:1].isalnum():
        return
    start, hyphen = match.groups()
    begin = _BEGIN.match(rest)
    word = begin.group().lower() if begin else ""
    if word in _HANGING and hyphen != "\u00ad":
        return
    if hyphen != "\u00ad" and _keeps_hyphen(start.lower(), rest, word, known):
        line.text = line.text[:-1] + "-" + rest
    else:
        line.text = line.text[:-1] + rest
    after.text = "".join(others)


def _keeps_hyphen(start: str, rest: str, word: str, known: set[str]) -> bool:
    if not rest[0].islower() or not start[-1].isalpha() or "-" in start:
        return True
    return start + word not in known and f"{start}-{word}" in known
