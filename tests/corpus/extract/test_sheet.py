"""Each row of a spreadsheet says what its values are."""

from __future__ import annotations

import pytest

from ragx.corpus.extract.office.sheet import Row, write_rows
from ragx.corpus.extract.parsed import TextBuilder


def text_of(*lines: str) -> str:
    """The text of rows given as "a|b"; an empty line is an empty row."""
    rows = [
        Row(number, {column: value for column, value in enumerate(line.split("|")) if value})
        for number, line in enumerate(lines)
        if line
    ]
    text = TextBuilder()
    write_rows(rows, text)
    return text.text


def test_names_of_columns_stand_before_the_values():
    assert text_of("Name|Rent", "Sand|900", "Olm|", "|7") == "Name | Rent\nName: Sand; Rent: 900\nName: Olm\nRent: 7"
    assert text_of("a|b:|c", "d|e|f") == "a | b: | c\na: d; b: e; c: f"


def test_titles_above_and_blocks_below():
    rows = ["Rents of the mill", "", "Name|Rent", "Sand|900", "", "Olm|800", "", "Year|Flour|Bran", "1931|5|6"]
    assert text_of(*rows) == (
        "Rents of the mill\n\nName | Rent\nName: Sand; Rent: 900\n\nName: Olm; Rent: 800\n\n"
        "Year | Flour | Bran\nYear: 1931; Flour: 5; Bran: 6"
    )
    assert text_of("Rents", "Name|Rent", "Sand|900") == "Rents\nName | Rent\nName: Sand; Rent: 900"


def test_years_may_be_names():
    assert text_of("Mill|1930|1931", "North|5|7") == "Mill | 1930 | 1931\nMill: North; 1930: 5; 1931: 7"
    assert text_of("Sand|1930|1935", "Olm|1936|1940") == "Sand | 1930 | 1935\nOlm | 1936 | 1940"


@pytest.mark.parametrize(
    "lines",
    [
        ["Name|Sand", "Street|Osterweg 12"],  # names and values
        ["1|2", "3|4"],
        ["a|a", "1|2"],
        ["a|" + "b" * 81, "1|2"],
        ["a|b", "1|2|3"],
    ],
)
def test_without_names_values_stand_side_by_side(lines):
    assert text_of(*lines) == "\n".join(line.replace("|", " | ") for line in lines)


def test_line_breaks_in_cells_are_spaces():
    assert text_of("12\nOsterweg|1", "2|3") == "12 Osterweg | 1\n2 | 3"
