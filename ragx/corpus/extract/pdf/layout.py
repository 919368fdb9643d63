"""The lines of a PDF page in reading order, from its words: columns one after the other, a row of a table on a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from ragx.corpus.extract.pdf.words import Word

_GAP = 0.8
"""Space in a line, in units of the font's size, at which a column or a cell may end."""
_CELL_GAP = 1.5
"""Space between the cells of a row."""
_PARAGRAPH = 1.4
"""Space between paragraphs, in units of the usual distance of lines."""
_COLUMN_LINES = 3
_COLUMN_CHARS = 18
"""Mean length of the lines of a column; cells of a table are shorter."""
_COLUMN_FILL = 0.35
"""Share of a column's area that its lines take up; the rest may be figures."""
_LINE = 1.2
"""Usual distance of lines, in units of the font's size."""
_CANDIDATES = 8
_EDGE_LINES = 3
_EDGE_GAP = 2.2
"""Space between a header or footer and the rest, in units of the font's size."""
_RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


@dataclass(slots=True)
class Line:
    """A line of a page."""

    text: str
    size: float = 0.0
    """Of its font, in points."""
    space_above: bool = False
    """It begins a paragraph."""


@dataclass(slots=True)
class _Segment:
    """Words of a line without a wide gap between them."""

    text: str
    x0: float
    x1: float
    y: float
    size: float
    order: int
    """Place in the order of the drawing."""


def lines_of(words: Sequence[Word]) -> list[Line]:
    """The lines of a page in reading order; text in the less usual directions of writing comes last."""
    angles = Counter[int]()
    for word in words:
        angles[word.angle] += len(word.text)
    lines: list[Line] = []
    for angle, _ in angles.most_common():
        turned = [word for word in words if word.angle == angle]
        if _is_vertical(turned):
            found = [Line("".join(word.text for word in turned), turned[0].size)]
        else:
            found = list(_page([_segments(row) for row in rows(turned)]))
        if lines and found:
            found[0].space_above = True
        lines += found
    return lines


def rows(words: Sequence[Word]) -> list[list[Word]]:
    """The words by the line on which they stand, from the top, each line from the left."""
    found: list[list[Word]] = []
    low = high = size = 0.0
    for word in sorted(words, key=lambda word: -word.y):
        bottom, top = word.y - 0.2 * word.size, word.y + 0.7 * word.size
        if found and min(top, high) - max(bottom, low) > 0.5 * min(top - bottom, high - low):
            found[-1].append(word)
        else:
            found.append([word])
            size = 0.0
        if word.size > size:
            low, high, size = bottom, top, word.size
    for row in found:
        row.sort(key=lambda word: word.x0)
    return found


def row_text(row: Sequence[Word]) -> str:
    """The text of a line of words, with tabs between cells."""
    return _row_text(_segments(row))


def _row_text(row: Sequence[_Segment]) -> str:
    text = row[0].text
    for left, right in pairwise(row):
        text += ("\t" if right.x0 - left.x1 > _CELL_GAP * max(left.size, right.size) else " ") + right.text
    return text


def _segments(row: Sequence[Word]) -> list[_Segment]:
    """The words of a line, joined where no wide gap divides them."""
    groups: list[list[Word]] = []
    for word in row:
        previous = groups[-1][-1] if groups else None
        if previous and word.x0 - previous.x1 < _GAP * max(word.size, previous.size):
            groups[-1].append(word)
        else:
            groups.append([word])
    return [_joined(group) for group in _without_wide_letters(groups)]


def _joined(group: Sequence[Word]) -> _Segment:
    size = max(group, key=lambda word: len(word.text)).size
    y = max(group, key=lambda word: word.size).y
    x1 = max(word.x1 for word in group)
    return _Segment(" ".join(word.text for word in _in_order(group)), group[0].x0, x1, y, size, group[0].order)


def _in_order(row: Sequence[Word]) -> Sequence[Word]:
    """The words of a line in the order of reading, which may be from the right."""
    rtl = [bool(_RTL.search(word.text)) for word in row]
    if not any(rtl) or 2 * sum(rtl) < sum(any(c.isalpha() for c in word.text) for word in row):
        return row
    ordered: list[Word] = []
    start = len(row)
    for index in range(len(row) - 1, -2, -1):  # runs of words from the left keep their order
        if index < 0 or rtl[index]:
            ordered += row[index + 1 : start]
            if index >= 0:
                ordered.append(row[index])
            start = index
    return ordered


def _without_wide_letters(groups: list[list[Word]]) -> list[list[Word]]:
    """The groups of words of a line, where s p a c e d  l e t t e r s are words again."""
    letters = [word for group in groups for word in group]
    single = [len(word.text) == 1 and word.text.isalpha() for word in letters]
    if len(letters) < 5 or sum(single) < 0.8 * len(letters):
        return groups
    gaps = [right.x0 - left.x1 for left, right in pairwise(letters)]
    limit = 1.6 * median(gaps) + 0.5
    words = [[letters[0]]]
    for gap, letter in zip(gaps, letters[1:], strict=True):
        if gap > limit:
            words.append([letter])
        else:
            words[-1].append(letter)
    if len(letters) < 2.5 * len(words) or (len(words) == 1 and not all(word.spaced for word in letters[1:])):
        return groups
    return [[_spelled(word) for word in words]]


def _spelled(letters: Sequence[Word]) -> Word:
    return replace(letters[0], text="".join(letter.text for letter in letters), x1=letters[-1].x1)


Table = list[list[_Segment]]
"""Segments by line."""


def _page(table: Table) -> Iterator[Line]:
    """The lines of a page in reading order. A few lines at its edges, apart from the rest, are above all columns."""
    start, end = 0, len(table)
    for index, (above, below) in enumerate(pairwise(table), 1):
        if above[0].y - below[0].y > _EDGE_GAP * max(above[0].size, below[0].size):
            if index <= _EDGE_LINES:
                start = index
            elif index >= len(table) - _EDGE_LINES:
                end = index
                break
    for part in ([_block(table[:start])], _ordered(table[start:end]), [_block(table[end:])]):
        for number, line in enumerate(line for block in part for line in block):
            line.space_above |= number == 0
            yield line


def _ordered(table: Table) -> Iterator[list[Line]]:
    """The blocks of a region in reading order: it is cut at the gap between columns that divides the most text."""
    best: list[tuple[Table, Table, Table]] = []
    divided = 0
    for x in _edges(table):
        bands = list(_bands(table, x))
        chars = sum(_chars(left) + _chars(right) for _, left, right in bands)
        if chars > divided:
            best, divided = bands, chars
    if not best:
        yield _block(table)
    for across, left, right in best:
        if across:
            yield _block(across)
        first, second = (right, left) if _is_rtl(left) and _is_rtl(right) else (left, right)
        if left:
            yield from _ordered(first)
            yield from _ordered(second)


def _edges(table: Table) -> Iterator[float]:
    """The left edges that most segments share: where a column may begin."""
    edges: dict[int, list[float]] = {}
    for row in table:
        for segment in row:
            edges.setdefault(round(segment.x0 / 4), []).append(segment.x0)
    edges.pop(min(edges, default=0), None)
    common = sorted(edges.items(), key=lambda item: (-len(item[1]), item[0]))[:_CANDIDATES]
    return (min(xs) - 0.5 for _, xs in common if len(xs) >= _COLUMN_LINES)


def _bands(table: Table, x: float) -> Iterator[tuple[Table, Table, Table]]:
    """Bands of lines from the top: lines across x, then the lines of the columns on both sides of it, or none."""
    across: Table = []
    band: Table = []
    for row in [*table, []]:
        if row and not any(s.x0 + s.size / 2 < x < s.x1 - s.size / 2 for s in row):
            band.append(row)
            continue
        left = [part for line in band if (part := [s for s in line if s.x0 + s.x1 < 2 * x])]
        right = [part for line in band if (part := [s for s in line if s.x0 + s.x1 >= 2 * x])]
        if _are_columns(left, right):
            yield across, left, right
            across = []
        else:
            across += band
        band = []
        if row:
            across.append(row)
    if across:
        yield across, [], []


def _are_columns(left: Table, right: Table) -> bool:
    """Each is text of its own, so that they are not the cells of a table."""
    short, long = sorted((left, right), key=len)
    if not short or len(long) < _COLUMN_LINES or (len(short) < _COLUMN_LINES and len(long) < 2 * _COLUMN_LINES):
        return False
    sides = [[segment for line in lines for segment in line] for lines in (left, right)]
    chars = [sum(_width(segment.text) for segment in side) for side in sides]
    if chars[0] < _COLUMN_CHARS * len(left) or chars[1] < _COLUMN_CHARS * len(right):
        return False
    drawn = sorted([(segment.order, 0) for segment in sides[0]] + [(segment.order, 1) for segment in sides[1]])
    if 10 * sum(a[1] != b[1] for a, b in pairwise(drawn)) < len(short):  # one was drawn after the other
        return True
    for lines, side, length in zip((left, right), sides, chars, strict=True):
        width = max(segment.x1 for segment in side) - min(segment.x0 for segment in side)
        height = lines[0][0].y - lines[-1][0].y + _LINE * lines[-1][0].size
        ink = sum((segment.x1 - segment.x0) * _LINE * segment.size for segment in side)
        if ink < _COLUMN_FILL * width * height or length < _COLUMN_CHARS * len(side):
            return False
    baselines = [line[0].y for line in long]
    level = sum(any(abs(line[0].y - y) < line[0].size / 10 for y in baselines) for line in short)
    return level < 0.8 * len(short) or (_flows(left) and _flows(right))


def _flows(lines: Table) -> bool:
    """Sentences continue from one line to the next."""
    return sum(line[0].text[0].islower() or line[0].text[0] > "\u2e80" for line in lines) > 0.25 * len(lines)


def _block(table: Table) -> list[Line]:
    """The lines of a region without columns."""
    pitches = [above[0].y - below[0].y for above, below in pairwise(table)]
    usual = median(pitches) if pitches else 0.0
    lines = []
    for row, pitch in zip(table, [0.0, *pitches], strict=False):
        size = max(row, key=lambda segment: len(segment.text)).size
        lines.append(Line(_row_text(row), size, pitch > min(_PARAGRAPH * usual, 2.5 * size)))
    return lines


def _chars(table: Table) -> int:
    return sum(len(segment.text) for row in table for segment in row)


def _width(text: str) -> int:
    """The number of characters; ideographs count twice."""
    return len(text) + sum(1 for character in text if "\u2e80" <= character <= "\ud7ff")


def _is_rtl(table: Table) -> bool:
    return sum(bool(_RTL.search(segment.text)) for row in table for segment in row) > len(table) / 2


def _is_vertical(words: Sequence[Word]) -> bool:
    """Ideographs one below the other."""
    below = sum(abs(a.x0 - b.x0) < a.size / 2 and b.y < a.y for a, b in pairwise(words))
    return below > len(words) / 2 and sum(len(word.text) == 1 and word.text > "\u2e80" for word in words) > below
