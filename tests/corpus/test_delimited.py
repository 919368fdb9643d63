"""Rows of tables, whatever their quotes."""

from __future__ import annotations

import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.corpus.delimited import records

cells = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters='\n"'), max_size=8)


def rows(text: str, delimiter: str = ",") -> list[list[str]]:
    return [row for _, row in records(enumerate(io.StringIO(text, newline=""), 1), delimiter)]


@given(st.lists(st.lists(cells, min_size=2, max_size=4), max_size=6), st.sampled_from(",;\t|"))
def test_well_formed_rows_are_read_as_the_csv_module_reads_them(table, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(table)
    assert rows(file.getvalue(), delimiter) == table


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('1,"a\n2,b\n3,c\n', [["1", '"a'], ["2", "b"], ["3", "c"]]),
        ('1,"a" b\n2,"c, d"\n', [["1", '"a" b'], ["2", "c, d"]]),
        ('1,"a\n2,"b\n3,"c"\n', [["1", '"a'], ["2", '"b'], ["3", "c"]]),
        ('1,"a\r\nb"\r\n\r\n2,c', [["1", "a\r\nb"], ["2", "c"]]),
        ('"', [['"']]),
        ("", []),
    ],
)
def test_a_malformed_quote_costs_no_other_row(text, found):
    assert rows(text) == found


def test_rows_have_the_numbers_of_their_last_lines():
    lines = [(1, "a,b\n"), (4, '"c\n'), (5, 'd",e\n'), (7, "f,g\n")]
    assert [number for number, _ in records(lines, ",")] == [1, 5, 7]


@pytest.mark.parametrize("text", ['a,"b\n' * 20_000, '"' * 200_000, '"\n' * 20_001, 'a,"b" c\n' * 50_000])
def test_open_quotes_take_linear_time(text):
    started = time.process_time()
    rows(text)
    assert time.process_time() - started < 10
