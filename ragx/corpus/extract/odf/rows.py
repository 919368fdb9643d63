"""Rows of tables and sheets in OpenDocument files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ragx.corpus.extract.office.package import attribute, local
from ragx.corpus.extract.parsed import REPEATED_CHARS

_MAX_REPEATED = 256
"""Equal cells side by side; a sheet is filled to its last column by one cell that is repeated."""
_MAX_COLUMNS = 1 << 14


def table_rows(table: Any) -> Iterator[tuple[dict[int, Any], dict[int, str]]]:
    """For each row its cells by column, and the texts of cells above that are merged over it."""
    above: dict[int, tuple[int, str]] = {}
    for row in children(table, "table-row"):
        column = 0
        cells: dict[int, Any] = {}
        repeated: dict[int, str] = {}
        for cell in row:
            count = repeat_count(cell, "number-columns-repeated")
            if local(cell) == "table-cell" and column < _MAX_COLUMNS:
                cells.update(dict.fromkeys(range(column, column + min(count, _MAX_REPEATED)), cell))
                if (rows := repeat_count(cell, "number-rows-spanned")) > 1:
                    plain = ("".join(paragraph.itertext()) for paragraph in cell.iter("{*}p"))
                    above[column] = rows, " ".join(" ".join(plain).split())
            elif above.get(column, (0, ""))[0] > 0:
                repeated[column] = above[column][1]
            column += count
        yield cells, {column: text for column, text in repeated.items() if len(text) <= REPEATED_CHARS}
        above = {column: (rows - 1, text) for column, (rows, text) in above.items() if rows > 1}


def children(parent: Any, kind: str) -> Iterator[Any]:
    """The rows of a table, also those in groups."""
    for element in parent:
        if local(element) == kind:
            yield element
        elif local(element) in ("table-header-rows", "table-rows", "table-row-group"):
            yield from children(element, kind)


def repeat_count(element: Any, name: str) -> int:
    value = attribute(element, name)
    return int(value) if re.fullmatch(r"[1-9]\d{0,6}", value) else 1
