"""Headers, footers and page numbers, which repeat from page to page of a PDF file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ragx.corpus.extract.pdf.layout import row_text, rows
from ragx.corpus.extract.pdf.words import Word, usual_angle

_LINES = 4
"""Lines at the top and at the bottom of a page that may repeat."""
_SHARE = 0.8
"""Share of the pages, or of those on the left or the right, that have a header."""
_MAX_CHARS = 300
"""Of a header."""
_PAGES = 3
"""Fewest pages that have it."""
_NUMBER = re.compile(r"\d{1,6}|\b[ivxlc]{1,7}\b")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

_PAGE = re.compile(
    r"\W*(p|pg|page|pagina|página|s|seite|sida|side|стр|страница)?\W*\0(\W*(/|de|di|of|sur|van|von|из)?\W*\d+)?\W*",
    re.I,
)
"""A line that is a page's number."""

Key = tuple[str, int | None]
"""A line with a null for one of its numbers, and by how much that exceeds the index of the page; or as it is."""


def without_repeats(pages: Sequence[list[Word]]) -> list[list[Word]]:
    """The words of pages without headers and footers.

    Dropped are lines at the edges of pages: numbers of pages, and lines that have the same words, or differ by the
    page's number alone, on nearly all pages or beside such numbers; the first of these lines stays.
    """
    edges = [(_edge(page, from_top=True), _edge(page, from_top=False)) for page in pages]
    counts: list[Counter[Key]] = [Counter(), Counter()]
    """Of even and odd pages."""
    for number, both in enumerate(edges):
        counts[number % 2].update({key for edge in both for text, _ in edge for key in _keys(text, number)})
    totals = [sum(bool(page) for page in pages[parity::2]) for parity in (0, 1)]
    offsets = Counter[int]()
    for (_, difference), count in (counts[0] + counts[1]).items():
        if difference is not None:
            offsets[difference] += count
    offset = offsets.most_common(1)[0][0] if offsets else None
    """How much the pages' own numbers exceed their index."""

    def repeats(key: Key, parity: int) -> bool:
        text, difference = key
        if difference != (None if difference is None else offset):
            return False
        total = counts[0][key] + counts[1][key]
        if difference is not None and (_PAGE.fullmatch(text) or text.startswith("\0\t") or text.endswith("\t\0")):
            return total >= _PAGES
        return total >= max(_PAGES, _SHARE * sum(totals)) or counts[parity][key] >= max(_PAGES, _SHARE * totals[parity])

    seen: set[Key] = set()
    kept = []
    for number, page in enumerate(pages):
        dropped: set[int] = set()
        found: set[Key] = set()
        for edge in edges[number]:
            for text, line in edge:
                key = next((key for key in _keys(text, number) if repeats(key, number % 2)), None)
                if key is None:
                    break
                if key in seen or _PAGE.fullmatch(key[0]):
                    dropped.update(map(id, line))
                found.add(key)
        seen |= found
        kept.append([word for word in page if id(word) not in dropped])
    return kept


def _edge(page: Sequence[Word], *, from_top: bool) -> list[tuple[str, list[Word]]]:
    """The first lines of a page from the top or from the bottom."""
    angle = usual_angle(page)
    upright = [word for word in page if word.angle == angle]
    lines = rows(upright)
    return [(row_text(line), line) for line in (lines[:_LINES] if from_top else lines[: -_LINES - 1 : -1])]


def _keys(text: str, index: int) -> Iterator[Key]:
    """What a line may have in common with those of other pages; `index`: of the page, from 0."""
    if len(text) > _MAX_CHARS:
        return
    for match in _NUMBER.finditer(text):
        value = int(match.group()) if match.group().isdigit() else _roman(match.group())
        yield f"{text[: match.start()]}\0{text[match.end() :]}", value - index
    yield text, None


def _roman(numeral: str) -> int:
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))
