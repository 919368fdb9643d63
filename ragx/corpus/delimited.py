"""Rows of tables with delimiters, quoted as CSV or not at all."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator

MAX_FIELD_CHARS = 64 << 20
_MAX_REREAD = 50
"""Lines of a malformed row that are tried again as rows of their own, quotes and all."""


def records(lines: Iterable[tuple[int, str]], delimiter: str, width: int = 0) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its last line.

    Where a quote makes a row malformed or swallows others, its first line is read as a row without quotes, and the next
    lines anew.

    Args:
        lines: with their numbers and ends.
        delimiter: one character.
        width: number of columns, to recognise swallowed rows in files with tabs; 0: unknown.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    source, again = iter(lines), deque[tuple[int, str]]()
    taken: list[tuple[int, str]] = []
    """Lines of the current row."""

    def take() -> Iterator[str]:
        while (line := again.popleft() if again else next(source, None)) is not None:
            taken.append(line)
            yield line[1]

    reader = csv.reader(take(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        try:
            row = next(reader, None)
        except csv.Error:
            row = None
        if row is None and not taken:
            return
        if row is None or (delimiter == "\t" and any(_is_row(line, width) for _, line in taken[1:])):
            plain = taken[: max(1, len(taken) - _MAX_REREAD)]
            again.extendleft(reversed(taken[len(plain) :]))
            reader = csv.reader(take(), delimiter=delimiter, strict=True)
            for number, line in plain:
                if line.strip():
                    yield number, line.rstrip("\r\n").split(delimiter)
        elif row:
            yield taken[-1][0], row


def _is_row(line: str, width: int) -> bool:
    """Whether a line inside a quoted field looks like a row of its own."""
    return line.count("\t") == width - 1 and line.partition("\t")[0].isdigit()
