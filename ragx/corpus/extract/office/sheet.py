"""The rows of a spreadsheet as text that each line explains by itself: "Name: Sand; Rent: 900"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ragx.corpus.extract.parsed import CELL_SEPARATOR, TextBuilder

HEADER_CHARS = 80
"""Longest name of a column."""
_VALUE = re.compile(r"#.*|TRUE|FALSE|[-+.,\d]+E[-+]?\d+")
"""A value with letters: an error, a truth value or a number."""
_YEAR = re.compile("(1[89]|2[01])[0-9]{2}")


@dataclass(slots=True)
class Row:
    """A row that is not empty."""

    number: int
    cells: dict[int, str]
    """By column, in order; no empty ones."""


def write_rows(rows: Iterable[Row], text: TextBuilder) -> None:
    """Append the rows of a sheet, a line each.

    Rows without an empty row between them are a block. If a block begins with names of columns, they stand in its first
    line and before each value. A later block without names in the same columns continues the one before.
    """
    header: dict[int, str] = {}
    names: Row | None = None
    """The last row, if it may hold the names of the columns: the next row decides."""
    is_open, number = False, 0
    for row in rows:
        separator = "\n" if row.number == number + 1 else "\n\n"
        if separator == "\n\n":
            is_open, names = False, None
        number = row.number
        row.cells = {column: " ".join(value.split()) for column, value in row.cells.items()}
        if names is not None and _has_names(names, row):
            header, is_open = names.cells, True
        names = None
        if is_open and header:
            text.add("; ".join(_named(header.get(column, ""), value) for column, value in row.cells.items()), separator)
            continue
        if _may_hold_names(row):
            names = row
        elif not is_open and len(row.cells) > 1:
            is_open = True
            if header and row.cells.keys() <= header.keys() and separator == "\n\n":
                text.add("; ".join(_named(header[column], value) for column, value in row.cells.items()), separator)
                continue
            header = {}
        text.add(CELL_SEPARATOR.join(row.cells.values()), separator)


def _named(name: str, value: str) -> str:
    return f"{name.removesuffix(':')}: {value}" if name else value


def _may_hold_names(row: Row) -> bool:
    """Whether all cells are different short texts or years."""
    values = row.cells.values()
    return (
        1 < len(row.cells) == len(set(values))
        and any(map(_is_text, values))
        and all((_is_text(value) and len(value) <= HEADER_CHARS) or _YEAR.fullmatch(value) for value in values)
    )


def _has_names(names: Row, row: Row) -> bool:
    """Whether the row below fits under the names. Two columns of text may just as well be names and values."""
    years = [column for column, name in names.cells.items() if _YEAR.fullmatch(name)]
    return (
        row.cells.keys() <= names.cells.keys()
        and (len(names.cells) > 2 or not all(map(_is_text, row.cells.values())))
        and not any(_YEAR.fullmatch(row.cells.get(column, "")) for column in years)
    )


def _is_text(value: str) -> bool:
    return any(map(str.isalpha, value)) and not _VALUE.fullmatch(value)
