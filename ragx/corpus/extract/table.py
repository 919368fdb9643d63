"""Tables (.csv, .tsv): a line a row, in which each value stands behind the name of its column: "Name: Sand; Rent: 900".

So a passage explains itself wherever the table is cut.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

from ragx.corpus.delimited import records
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_SAMPLE_CHARS = 1 << 16
MAX_HEADER_CHARS = 80
"""Longest name of a column."""


def parse(path: Path) -> Parsed:
    """The rows, without empty cells."""
    source, missing = read_source(path)
    source = source.strip("\n")
    first, _, rest = source.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # written by Excel
        delimiter, source = first[4], rest
    else:
        delimiter = _delimiter(source, "\t" if path.suffix.lower() == ".tsv" else ",")
    rows = _rows(source, delimiter)
    head = list(itertools.islice(rows, 2))
    header = head.pop(0) if _has_header(head) else []
    lines = ["; ".join(_cells(header, row)) for row in itertools.chain(head, rows)]
    if not lines and header:
        lines = ["; ".join(header)]
    return Parsed("\n".join(line for line in lines if line), missing=missing)


def _delimiter(source: str, usual: str) -> str:
    """The delimiter that cuts the first rows into most columns, equally many in most rows. (csv.Sniffer can hang.)"""
    sample = source[:_SAMPLE_CHARS]
    best, most = usual, 1.0
    for delimiter in dict.fromkeys(usual + DELIMITERS):
        widths = [len(row) for row in itertools.islice(_rows(sample, delimiter), _SAMPLE_ROWS)]
        common = max(widths, key=lambda width: (widths.count(width), width), default=0)
        agreeing = widths.count(common) / max(len(widths), 1)
        if common > 1 and (score := common * agreeing**4) > most:
            best, most = delimiter, score
    return best


def _rows(source: str, delimiter: str) -> Iterator[list[str]]:
    """The rows that are not empty, their cells on one line."""
    for _, row in records(enumerate(io.StringIO(source, newline="")), delimiter):
        if any(map(str.strip, row)):
            yield [" ".join(cell.split()) for cell in row]


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first of two rows names columns: different short names, most of them words."""
    if len(rows) < 2:
        return False
    names = [cell for cell in rows[0] if cell]
    words = sum(any(map(str.isalpha, name)) for name in names)
    short = all(len(name) <= MAX_HEADER_CHARS for name in names)
    return short and len(names) == len(set(names)) and words * 2 >= len(rows[0])


def _cells(header: list[str], row: list[str]) -> Iterator[str]:
    for name, value in itertools.zip_longest(header, row, fillvalue=""):
        if value:
            yield f"{name.removesuffix(':')}: {value}" if name else value
