"""Headings, titles and metadata of PDF files, and what of them has no text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from ragx.corpus.extract.parsed import UnreadableError
from ragx.corpus.extract.pdf import parse
from tests.helpers.pages import LEFT, SENTENCE, all_of, column, image, lines


def test_the_outline_gives_headings_at_their_lines(drawn):
    def draw(canvas: Canvas, *bookmarks: tuple[str, int], text: list[str]) -> None:
        lines(*text)(canvas)
        for title, level in bookmarks:
            canvas.bookmarkPage(title)
            canvas.addOutlineEntry(title, title, level)

    parsed = drawn(
        lambda canvas: draw(
            canvas, ("Snow", 0), ("Its colour", 1), text=["1 Snow", SENTENCE, "1.1 Its  colour", "white"]
        ),
        lambda canvas: draw(canvas, ("Not in the text", 0), text=["Ice is blue.", SENTENCE]),
    )
    starts = [parsed.text[heading.start :].split("\n")[0] for heading in parsed.headings]
    assert starts == ["1 Snow", "1.1 Its colour", "Ice is blue."]
    assert [(heading.level, heading.text) for heading in parsed.headings] == [
        (1, "Snow"),
        (2, "Its colour"),
        (1, "Not in the text"),
    ]


@pytest.mark.parametrize(
    ("stated", "title"),
    [
        ("On snow", "On snow"),
        ("", "The Colour of Snow and Ice"),
        ("untitled", "The Colour of Snow and Ice"),
        ("Microsoft Word - paper_v2.doc", "The Colour of Snow and Ice"),
        ("paper.dvi", "The Colour of Snow and Ice"),
        ("905_Precinct", "The Colour of Snow and Ice"),
        ("第一章", "第一章"),
    ],
)
def test_the_title_is_the_stated_one_or_the_largest_text(drawn, stated, title):
    def draw(canvas: Canvas) -> None:
        lines("Journal of Winter 3", y=800)(canvas)
        canvas.setFont("Helvetica", 20)
        lines("The Colour of", "Snow and Ice", y=760, pitch=24)(canvas)
        canvas.setFont("Helvetica", 12)
        lines(*column(LEFT), y=700)(canvas)

    assert drawn(draw, title=stated).title == title


def test_a_file_of_one_size_of_text_has_no_title(drawn):
    assert drawn(lines(*column(LEFT))).title == ""


def test_metadata(tmp_path):
    canvas = Canvas(str(tmp_path / "a.pdf"))
    canvas.setAuthor("Philomena Quist")
    canvas.drawString(72, 700, "Snow")
    canvas.save()
    metadata: dict[str, Any] = parse(tmp_path / "a.pdf").metadata
    assert metadata.pop("created")[:2] == "20"
    assert metadata == {"author": "Philomena Quist", "pages": 1}


def test_pages_without_text_are_named(drawn):
    blank = lambda canvas: None  # noqa: E731
    parsed = drawn(lines("Snow."), image, image, blank, lines("Ice."), image)
    assert parsed.text == "Snow.\n\f\f\f\fIce."
    (missing,) = parsed.missing
    assert missing.startswith("pages 2-3 and 6 have no text")
    assert drawn(lines("Snow."), image).missing[0].startswith("page 2 has no text")
    assert drawn(lines("Snow."), blank).missing == []


def test_a_scan_with_a_header_on_every_page_has_no_text(drawn):
    pages = [all_of(image, lines(f"Case 1:20-cv-00123\tPage {n} of 5", y=800)) for n in range(1, 6)]
    assert drawn(*pages).missing[0].startswith("pages 2-5 have no text")


@pytest.mark.parametrize("text", ["\\001\\003\\004\\005 \\006", "3HQfQtSU VWH@GN QD~bWHFK 7KH JODFLHU"])
def test_text_in_a_font_that_does_not_tell_its_meaning_is_none(tmp_path, no_ocr, text):
    font = b"<</Type/Font/Subtype/Type3/FontBBox[0 0 9 9]/FontMatrix[.1 0 0 .1 0 0]/FirstChar 1/LastChar 255"
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 600 800]/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length 999>>stream\nBT /F 12 Tf 72 700 Td (%b) Tj ET\nendstream" % text.encode(),
        font + b"/Widths[%b]/Encoding<</Differences[1%b]>>/CharProcs<</G01 4 0 R>>>>" % (b"9 " * 255, b"/G01" * 255),
    )
    body = b"".join(b"%d 0 obj %b endobj\n" % item for item in enumerate(objects, 1))
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n" + body + b"trailer<</Root 1 0 R>>")
    with pytest.raises(UnreadableError, match="page 1 has no text"):
        parse(tmp_path / "a.pdf")


def test_attached_files_are_named(tmp_path, write_pdf):
    from pypdfium2 import PdfDocument

    document = PdfDocument(write_pdf(tmp_path / "a.pdf", "Snow."))
    for name in ("accounts.csv", "notes.txt"):
        document.new_attachment(name).set_data(b"1,2")
    document.save(tmp_path / "b.pdf")
    parsed = parse(tmp_path / "b.pdf")
    assert parsed.text == "Snow."
    assert parsed.missing == ["attached files are not read: accounts.csv, notes.txt"]


def test_a_file_that_is_all_scanned_says_what_to_do(drawn):
    with pytest.raises(UnreadableError, match="ocrmypdf"):
        drawn(image, image)


def test_encrypted_files(tmp_path, write_pdf):
    assert parse(write_pdf(tmp_path / "a.pdf", "White.", password="")).text == "White."
    with pytest.raises(UnreadableError, match="is encrypted"):
        parse(write_pdf(tmp_path / "b.pdf", "White.", password="winter"))


def test_pages_metadata_and_what_is_missing_reach_the_documents(tmp_path, read, write_pdf):
    canvas = Canvas(str(tmp_path / "snow.pdf"))
    for draw in (lines("Snow is white."), image):
        draw(canvas)
        canvas.showPage()
    canvas.save()
    (document,), (skipped,) = read(tmp_path)
    assert (document.title, document.text, document.paged) == ("snow", "Snow is white.", True)
    assert json.loads(document.metadata)["pages"] == 2
    assert "page 2" in skipped.reason
