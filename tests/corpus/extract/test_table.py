"""Tables: each row explains itself."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", "Name,Rent\nSand,900\nHill,\n,\n", "Name: Sand; Rent: 900\nName: Hill"),
        ("a.csv", "Name;Rent;Note\nSand;900,50;a, b\n", "Name: Sand; Rent: 900,50; Note: a, b"),
        ("a.csv", "sep=;\nName;Rent\nSand;9,5\n", "Name: Sand; Rent: 9,5"),
        ("a.csv", "Name|Rent\nSand|900\n", "Name: Sand; Rent: 900"),
        ("a.tsv", "Name\tRent\nSand\t900\n", "Name: Sand; Rent: 900"),
        ("a.csv", 'Name,Note\n"Sand, H.","two\nlines ""here"""\n', 'Name: Sand, H.; Note: two lines "here"'),
        ("a.csv", "1,2\n3,4\n", "1; 2\n3; 4"),
        ("a.csv", ",Rent\nSand,900\n", "Sand; Rent: 900"),
        ("a.csv", "Name\nSand\nHill\n", "Name: Sand\nName: Hill"),
        ("a.csv", "Name,Rent\n", "Name; Rent"),
        ("a.csv", "Name,Rent\nSand,900,extra\n", "Name: Sand; Rent: 900; extra"),
    ],
)
def test_a_line_a_row_with_the_names_of_its_columns(parse, name, content, text):
    assert parse(name, content)[0].text == text


def test_a_table_in_windows_1252(parse):
    assert parse("a.csv", "Straße;Größe\nMühlgasse;3\n".encode("cp1252"))[0].text == "Straße: Mühlgasse; Größe: 3"


def test_an_open_quote_swallows_no_row(parse):
    document, _ = parse("a.tsv", 'No\tText\tBy\n1\t"Yes, late.\tAnn\n2\tThe mill.\tBo\n3\tThe "old" road.\tCy\n')
    assert document.text == (
        'No: 1; Text: "Yes, late.; By: Ann\nNo: 2; Text: The mill.; By: Bo\nNo: 3; Text: The "old" road.; By: Cy'
    )


words = st.text(st.characters(categories=["L", "N", "P"], exclude_characters=";:"), min_size=1, max_size=20)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(words, words, words), min_size=2, max_size=20), st.sampled_from(",\t|"))
def test_what_the_csv_module_writes_is_read_whole(parse, rows, delimiter):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("first", "second", "third"), *rows])
    document, _ = parse("a.tsv" if delimiter == "\t" else "a.csv", file.getvalue())
    lines = document.text.split("\n")
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.startswith("first: ")
        assert all(f": {cell}" in line for cell in map(_normal, row))


def _normal(cell: str) -> str:
    from ragx.corpus.document import normalise

    return normalise(cell)


HOSTILE = [
    '"' * 500_000,
    '"a\n' * 100_000,
    "," * 500_000,
    "a,b\n" * 200_000,
    '"' + "a" * 3_000_000,
    "\n" * 500_000 + "a",
]


@pytest.mark.slow
@pytest.mark.parametrize("content", HOSTILE)
def test_hostile_tables_are_read_or_skipped_in_one_line(parse, content):
    document, reasons = parse("a.csv", content)
    assert document or reasons
    assert not any("crashed" in reason or "seconds" in reason for reason in reasons)
