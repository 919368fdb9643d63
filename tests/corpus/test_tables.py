"""A passage that begins inside a table has the table's header, whatever the format of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.config import Chunking
from ragx.corpus import Document, split_passages
from ragx.corpus.document import Heading
from ragx.types import Passage, embedded_text
from tests.helpers.office import xml

NAMES = ("Station", "Height", "Snow")
ROWS = [NAMES, *((f"hut {number}", f"{number * 100} m", f"{number} cm") for number in range(20))]


def passages_of(text: str, size: int = 12, headings: tuple[Heading, ...] = ()) -> list[Passage]:
    return list(split_passages([Document("d", "T", text, "/d.txt", headings=headings)], Chunking(size=size)))


def word(*rows: tuple[str, ...]) -> str:
    cells = ("".join(f"<w:tc><w:p><w:r><w:t>{cell}</w:t></w:r></w:p></w:tc>" for cell in row) for row in rows)
    return xml("w:document", f"<w:body><w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl></w:body>")


def flat_odf(*rows: tuple[str, ...]) -> str:
    cells = ("".join(f"<t:table-cell><x:p>{cell}</x:p></t:table-cell>" for cell in row) for row in rows)
    office = "urn:oasis:names:tc:opendocument:xmlns"
    names = f'xmlns:o="{office}:office:1.0" xmlns:x="{office}:text:1.0" xmlns:t="{office}:table:1.0"'
    table = f"<t:table>{''.join(f'<t:table-row>{row}</t:table-row>' for row in cells)}</t:table>"
    return f"<o:document {names}><o:body><o:text>{table}</o:text></o:body></o:document>"


def html(*rows: tuple[str, ...]) -> str:
    return f"<table>{''.join('<tr><td>' + '<td>'.join(row) for row in rows)}</table>"


def markdown(*rows: tuple[str, ...]) -> str:
    first, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([first, "|---" * len(rows[0]) + "|", *others])


def latex(*rows: tuple[str, ...]) -> str:
    body = "\n".join(f"{' & '.join(row)} \\\\" for row in rows)
    return f"\\begin{{document}}\\begin{{tabular}}{{lll}}\n{body}\n\\end{{tabular}}\\end{{document}}"


def wiki(*rows: tuple[str, ...]) -> str:
    body = "\n|-\n".join(f"| {' || '.join(row)}" for row in rows)
    page = f"<page><title>Huts</title><ns>0</ns><revision><text>{{|\n{body}\n|}}</text></revision></page>"
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">{page}</mediawiki>'


FILES = {
    "a.html": html(*ROWS),
    "a.md": markdown(*ROWS),
    "a.tex": latex(*ROWS),
    "a.fodt": flat_odf(*ROWS),
    "a.xml": wiki(*ROWS),
    "psql.log": "\n".join([" Station | Height | Snow", "---------+--------+------", *map(" | ".join, ROWS[1:])]),
}


def check(document: Document) -> None:
    first, *others = split_passages([document], Chunking(size=12))
    assert first.headings == ""
    assert len(others) > 5
    for passage in others:
        assert passage.headings.strip("| ").split() in (["Station", "|", "Height", "|", "Snow"], [*NAMES])
        assert passage.text == document.text[passage.start : passage.end]
        assert passage.headings in embedded_text(passage)


@pytest.mark.parametrize("name", FILES)
def test_every_passage_of_a_table_has_its_header(read, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    (document,), skipped = read(tmp_path / name)
    assert not skipped
    check(document)


def test_a_table_in_word(read, write_docx, tmp_path: Path) -> None:
    (document,), _ = read(write_docx(tmp_path / "a.docx", extra={"word/document.xml": word(*ROWS).encode()}))
    check(document)


def test_a_table_on_several_pages_of_a_pdf_file(read, tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "a.pdf"))
    for rows in (ROWS[:9], ROWS[9:]):
        for line, row in enumerate(rows):
            for column, cell in enumerate(row):
                canvas.drawString(72 + 150 * column, 760 - 16 * line, cell)
        canvas.showPage()
    canvas.save()
    (document,), _ = read(tmp_path / "a.pdf")
    check(document)


def test_the_rows_of_a_csv_file_name_their_columns_themselves(read, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join(map(",".join, ROWS)))
    (document,), _ = read(tmp_path / "a.csv")
    assert "Station: hut 7; Height: 700 m; Snow: 7 cm" in document.text


def test_the_header_follows_the_headings_on_a_line_of_its_own() -> None:
    text = "Huts\n\nStation | Snow\nhut 1 | 10 cm\nhut 2 | 20 cm"
    _, last = passages_of(text, 9, (Heading(0, 1, "Huts"),))
    assert last.headings == "Huts\nStation | Snow"


def test_no_passage_outside_the_table_has_its_header() -> None:
    table = "Station | Snow\nhut 1 | 10 cm\nhut 2 | 20 cm\nhut 3 | 30 cm"
    before, after = "The huts of the valley.\n\n", "\n\nThese are all the huts there are."
    passages = passages_of(before + table + after, 4)
    inside = range(len(before) + 1, len(before) + len(table))
    assert {passage.start for passage in passages if passage.headings} == {
        passage.start for passage in passages if passage.start in inside
    }


@pytest.mark.parametrize(
    "text",
    [
        "Oslo | 12 degrees | snow\nRome | 20 degrees | sun\nParis | 15 degrees | rain",  # the first row has values
        "Ida | Rome | cook\nPiet | Oslo | cook\nAnna | Paris | cook",  # the first row is one like the others
        "Name | Ida\nTown | Rome\nJob | cook",  # names and values
        "def mill(\n    a: int | None,\n    b: int | str | None = None,\n    c: str | None = None,\n) -> None:",
        "cat a | sort | uniq\nand that is all",
        "| Rent |\n|---|\n| 900 |\n| 800 |",  # one column
        "",
    ],
)
def test_other_lines_have_no_header(text: str) -> None:
    assert all(passage.headings == "" for passage in passages_of(text, 2))


def test_a_drawn_line_marks_the_header_of_two_columns_of_text() -> None:
    *_, last = passages_of(markdown(("Name", "Job"), ("Ida", "cook"), ("Piet", "smith"), ("Anna", "miller")), 5)
    assert last.headings == "| Name | Job |"


def test_a_header_of_two_columns_of_text_is_much_shorter_than_the_rows() -> None:
    rows = [("Option", "Meaning"), *((f"option-{letter}", "grinds the corn twice as fine") for letter in "abcd")]
    *_, last = passages_of("\n".join(map(" | ".join, rows)), 9)
    assert last.headings == "Option | Meaning"


def test_rows_over_all_columns_and_notes_do_not_end_a_table() -> None:
    lines = ["Station | Height | Snow", "The north", "hut 1 | 100 m | 1 cm", "\nNote: Closed in May.", "The south"]
    *_, last = passages_of("\n".join([*lines, "hut 2 | 200 m | 2 cm", "hut 3 | 300 m | 3 cm"]), 8)
    assert last.headings == "Station | Height | Snow"


def test_a_long_header_is_cut() -> None:
    header = " | ".join(f"column {number} of a wide table" for number in range(50))
    row = " | ".join("1" for _ in range(50))
    *_, last = passages_of("\n".join([header, row, row, row]), 40)
    assert last.headings.startswith("column 0 of")
    assert len(last.headings) == 300
