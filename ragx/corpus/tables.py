"""Tables in the text of a document, whatever its format: lines of cells under a line of column names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ragx.corpus.document import one_line

_BLOCK = re.compile(r"\n[^\S\n\f]*\n(?!Note: |Comment by )")
"""An empty line ends a table, unless a note or comment on a row follows."""
_CELL_END = re.compile(r"\s\|\s|\t+")
"""Between cells: `CELL_SEPARATOR`, also in the source of Markdown; tabs in the text of PDF files."""
_RULE = re.compile(r"[-=+:|\s]*")
"""A line that is drawn, or an empty one."""
_VALUE = re.compile(r"[^\w\s]?\s?\d")
_NO_NAME = re.compile(r"[=;{}]|[,:(\[]$")
"""Source code may have "|" as an operator; a label names the cell beside it."""
_YEAR = re.compile("(1[89]|2[01])[0-9]{2}")
_HEADER_CHARS = 300
_NAME_CHARS = 80
"""Longest name of a column."""
_LEAST_ROWS = 2
_SHORT = 2.0
"""Mean length of the other rows in units of that of a header that nothing else tells."""
_LEAST_SHARE = 0.5
"""Of the lines below the header: rows with as many cells. Others are parts of cells, or headings of some rows."""


class Table(NamedTuple):
    """A table whose header later passages repeat."""

    start: int
    """Character offset of its header."""
    end: int
    """Character offset after its last row."""
    header: str


def find_tables(text: str) -> Iterator[Table]:
    """The tables of a text in order: blocks of lines whose first row of cells names the columns.

    No cell of such a row is a value, or is repeated in its column. Two columns of text may just as well be names and
    values, unless a line is drawn below the first row, or the others are much longer.
    """
    if not _CELL_END.search(text):
        return
    start = 0
    for end in (*(match.start() for match in _BLOCK.finditer(text)), len(text)):
        if table := _table(text, start, end):
            yield table
        start = end


def _table(text: str, start: int, end: int) -> Table | None:
    """The table in a block of text, from its first line with cells to its last row that has as many."""
    if not _CELL_END.search(text, start, end):
        return None
    header: tuple[int, str] | None = None
    names: list[str] = []
    is_certain = False
    rows = lines = lines_to_last = last = chars = 0
    for line in text[start:end].split("\n"):
        cells = _cells(line)
        if header is None and len(cells) > 1:
            if not _names_columns(cells):
                return None
            header, names = (start + len(line) - len(line.lstrip()), one_line(line, _HEADER_CHARS)), cells
        elif header is not None and _RULE.fullmatch(line):
            is_certain = is_certain or (line.strip() != "" and not lines)
        elif header is not None:
            lines += 1
            if len(cells) == len(names):
                if cells != names and any(cell == name != "" for cell, name in zip(cells, names, strict=True)):
                    return None  # the first row is one like the others
                is_certain = is_certain or len(cells) > 2 or (not rows and any(map(_is_value, cells)))
                rows, lines_to_last, last, chars = rows + 1, lines, start + len(line), chars + len(line)
        start += len(line) + 1
    if header is None or rows < _LEAST_ROWS or rows < _LEAST_SHARE * lines_to_last:
        return None
    if not is_certain and chars < _SHORT * rows * len(header[1]):
        return None
    return Table(header[0], last, header[1])


def _cells(line: str) -> list[str]:
    return [] if _RULE.fullmatch(line) else [cell.strip() for cell in _CELL_END.split(f" {line.strip().strip('|')} ")]


def _names_columns(cells: list[str]) -> bool:
    """Whether the cells are different short texts or years; the first may be empty."""
    names = cells if cells[0] else cells[1:]
    return len(set(names)) == len(names) and all(
        len(name) <= _NAME_CHARS and (not _is_value(name) or _YEAR.fullmatch(name)) and not _NO_NAME.search(name)
        for name in names
    )


def _is_value(cell: str) -> bool:
    return _VALUE.match(cell) is not None or not any(map(str.isalpha, cell))
