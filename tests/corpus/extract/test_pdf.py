"""PDF files: text in reading order with pages and headings, form values and notes, and what has no text."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from ragx.corpus.extract.parsed import Parsed, UnreadableError
from ragx.corpus.extract.pdf import ocr, parse
from ragx.corpus.extract.pdf.layout import lines_of
from ragx.corpus.extract.pdf.words import Word

SENTENCE = "Fresh snow reflects most of the sunlight that falls on it"
LEFT = "the glacier retreats faster every summer because dark soil absorbs the light that snow would reflect"
RIGHT = "farmers in the valley below store the water of spring in ponds and lead it to fields through canals"


@pytest.fixture
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that recognises text is not installed."""
    monkeypatch.setattr(ocr, "is_installed", lambda: False)


@pytest.fixture
def drawn(tmp_path, no_ocr) -> Callable[..., Parsed]:
    """Parse a file whose pages some functions draw, each with a canvas."""

    def drawn(*pages: Callable[[Canvas], object], title: str = "") -> Parsed:
        canvas = Canvas(str(tmp_path / "drawn.pdf"))
        canvas.setTitle(title)
        for page in pages:
            page(canvas)
            canvas.showPage()
        canvas.save()
        return parse(tmp_path / "drawn.pdf")

    return drawn


def lines(*texts: str, x: float = 72, y: float = 760, pitch: float = 14) -> Callable[[Canvas], None]:
    def draw(canvas: Canvas) -> None:
        for number, text in enumerate(texts):
            canvas.drawString(x, y - pitch * number, text)

    return draw


def all_of(*parts: Callable[[Canvas], object]) -> Callable[[Canvas], None]:
    def draw(canvas: Canvas) -> None:
        for part in parts:
            part(canvas)

    return draw


def image(canvas: Canvas) -> None:
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    canvas.drawImage(ImageReader(Image.new("RGB", (40, 40), "grey")), 60, 60, 480, 700)


def column(text: str, length: int = 5, times: int = 4) -> list[str]:
    many = text.split() * times
    return [" ".join(many[start : start + length]) for start in range(0, len(many), length)]


# Reading order


def by_row(canvas: Canvas, *columns: list[str], xs: Iterable[float]) -> None:
    for number, texts in enumerate(zip_longest(*columns, fillvalue="")):
        for x, text in zip(xs, texts, strict=True):
            canvas.drawString(x, 700 - 14 * number, text)


def test_columns_that_are_drawn_row_by_row_are_read_one_after_the_other(drawn):
    left, right = column(LEFT), column(RIGHT)
    text = drawn(lambda canvas: by_row(canvas, left, right, xs=(60, 320))).text
    assert text.split("\n") == left + right


def test_three_columns_below_a_title_and_above_a_footnote(drawn):
    columns = column(LEFT, 4), column(RIGHT, 4), column(" ".join(LEFT.split()[::-1]), 4)
    page = all_of(
        lines("A title across all of the columns of this page, however many there are of them", x=60, y=740),
        lambda canvas: by_row(canvas, *columns, xs=(40, 215, 390)),
        lines("A last line across all of the columns of this page, however many there are of them", x=60, y=300),
    )
    first, *rest, last = [line for line in drawn(page).text.split("\n") if line]
    assert rest == [line for texts in columns for line in texts]
    assert (first[:7], last[:11]) == ("A title", "A last line")


def test_columns_whose_lines_are_not_level(drawn):
    left, right = column(LEFT), column(RIGHT)
    page = all_of(lines(*left, x=60, pitch=13), lines(*right, x=320, y=755, pitch=12))
    assert drawn(page).text.split() == " ".join(left + right).split()


def test_a_row_of_a_table_is_a_line_even_if_it_is_drawn_by_column(drawn):
    cells = [[f"{name} {number}" for number in range(12)] for name in ("Station", "Height", "Snow")]
    page = all_of(*(lines(*texts, x=72 + 150 * number) for number, texts in enumerate(cells)))
    rows = [line for line in drawn(page).text.split("\n") if line]
    assert rows == ["\t".join(row) for row in zip(*cells, strict=True)]


def test_a_table_of_long_cells_is_read_by_row(drawn):
    cells = [[f"{name} of the winter number {row}" for row in range(12)] for name in ("Station", "Observer")]
    page = lambda canvas: by_row(canvas, *cells, xs=(60, 320))  # noqa: E731
    assert drawn(page).text.split("\n")[0] == "\t".join(texts[0] for texts in cells)


def test_paragraphs_are_apart(drawn):
    page = all_of(lines(*column(LEFT, times=1)), lines(*column(RIGHT, times=1), y=660))
    assert drawn(page).text.split("\n\n") == ["\n".join(column(words, times=1)) for words in (LEFT, RIGHT)]


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("turned_page", [False, True])
def test_rotated_text_and_pages(drawn, angle, turned_page):
    def draw(canvas: Canvas) -> None:
        if turned_page:
            canvas.setPageRotation(angle)
        canvas.translate(300, 400)
        canvas.rotate(angle)
        lines(*column(LEFT, times=1), x=-200, y=100)(canvas)

    assert drawn(draw).text.split("\n") == column(LEFT, times=1)


def test_text_in_another_direction_comes_last(drawn):
    def stamp(canvas: Canvas) -> None:
        canvas.rotate(90)
        canvas.drawString(200, -30, "Stamp of the library")
        canvas.rotate(-90)

    assert drawn(all_of(stamp, lines(SENTENCE))).text == f"{SENTENCE}\n\nStamp of the library"


def spread(text: str, step: float) -> Callable[[Canvas], None]:
    def draw(canvas: Canvas) -> None:
        x = 72.0
        for character in text:
            if character != " ":
                canvas.drawString(x, 700, character)
            x += canvas.stringWidth(character, "Helvetica", 12) + step

    return draw


@pytest.mark.parametrize("step", [0, 1, 4, 8])
def test_letters_that_are_drawn_one_by_one_and_apart_are_words(drawn, step):
    assert drawn(spread("Final report of the winter", step)).text == "Final report of the winter"


def test_letters_with_spaces_between_them_are_words(drawn):
    assert drawn(lines("F I N A L   R E P O R T   O N   S N O W")).text == "FINAL REPORT ON SNOW"


def test_single_letters_in_a_row_stay_apart(drawn):
    assert drawn(lines("A B C D E F G H")).text == "A B C D E F G H"


# Characters


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["the commit-", "tee met"], "the committee\nmet"),
        (["the commit\u00ad", "tee met"], "the committee\nmet"),
        (["the Anglo-", "Saxon king"], "the Anglo-Saxon\nking"),
        (["from COVID-", "19 on"], "from COVID-19\non"),
        (["state-of-", "the-art work"], "state-of-the-art\nwork"),
        (["a well-known place, a well-", "known name"], "a well-known place, a well-known\nname"),
        (["pre-", "and postwar"], "pre-\nand postwar"),
        (["snow -", "and ice"], "snow -\nand ice"),
    ],
)
def test_words_that_are_cut_at_the_end_of_a_line(drawn, texts, expected):
    assert drawn(lines(*texts)).text == expected


def test_a_word_that_is_cut_at_the_end_of_a_page_or_a_column(drawn):
    assert drawn(lines("all of the commit-"), lines("tee met")).text == "all of the committee\n\fmet"
    left, right = [*column(LEFT), "the commit-"], ["tee met again", *column(RIGHT)]
    text = drawn(lambda canvas: by_row(canvas, left, right, xs=(60, 320))).text
    assert "the committee\nmet again" in text


@pytest.fixture
def unicode_font() -> str:
    import matplotlib
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont("DejaVu", fonts / "DejaVuSans.ttf"))
    return "DejaVu"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The ﬁnal oﬃcial ﬂood", "The final official flood"),
        ("cafe\u0301", "café"),
        ("soft\u00adly", "softly"),
        ("םולש", "שלום"),  # the letters in the order of drawing, from the left
    ],
)
def test_ligatures_accents_soft_hyphens_and_text_from_the_right(drawn, unicode_font, text, expected):
    def draw(canvas: Canvas) -> None:
        canvas.setFont(unicode_font, 12)
        canvas.drawString(72, 700, text)

    assert drawn(draw).text == expected


def test_an_accent_that_is_drawn_over_a_letter_belongs_to_it(drawn):
    def draw(canvas: Canvas) -> None:
        canvas.drawString(72, 700, "caf")
        x = 72 + canvas.stringWidth("caf", "Helvetica", 12)
        canvas.drawString(x - 0.3, 700, "´")
        canvas.drawString(x, 700, "e noir")

    assert drawn(draw).text == "café noir"


def test_ideographs_one_below_the_other_are_read_in_the_order_of_drawing():
    columns = ("吾輩は猫である", "名前はまだ無い")
    words = [
        Word(character, 500 - 20 * number, 512 - 20 * number, 700 - 13 * row, 12)
        for number, column in enumerate(columns)
        for row, character in enumerate(column)
    ]
    assert [line.text for line in lines_of(words)] == ["".join(columns)]


def test_a_long_line_without_spaces_takes_no_longer_than_others(drawn):
    line = "a" * 20_000
    assert drawn(lines(line + "-", "b" + line)).text == f"{line}b{line}"


# Forms and notes


def test_values_of_form_fields_stand_in_their_place(drawn):
    def draw(canvas: Canvas) -> None:
        lines("Name", "Member", "Guest", "Town", "Password", y=700, pitch=40)(canvas)
        form = canvas.acroForm
        form.textfield(name="name", value="Philomena Quist", x=160, y=690, width=200, height=24)
        form.checkbox(name="member", checked=True, x=160, y=655, size=16)
        form.checkbox(name="guest", checked=False, x=160, y=615, size=16)
        form.choice(name="town", value="Zinal", options=["Arolla", "Zinal"], x=160, y=572, width=120, height=20)
        form.textfield(name="key", value="secret", x=160, y=535, width=200, height=24, fieldFlags="password")

    assert drawn(draw).text.split("\n\n") == [
        "Name\tPhilomena Quist",
        "Member\t[x]",
        "Guest",
        "Town\tZinal",
        "Password",
    ]


def test_text_boxes_and_notes_are_read(drawn):
    def draw(canvas: Canvas) -> None:
        lines("Snow is white.", "Ice is blue.")(canvas)
        canvas.freeTextAnnotation("A text box", Rect=[72, 600, 300, 640], DA="/Helv 12 Tf 0 g")
        canvas.textAnnotation("Ask Philomena", Rect=[400, 700, 420, 720])
        canvas.highlightAnnotation("Really?", Rect=[72, 740, 150, 775])

    assert drawn(draw).text == "Snow is white.\nIce is blue.\n\nA text box\n\nNote: Ask Philomena\n\nNote: Really?"


# Headers and footers


def body(number: int) -> list[str]:
    return [f"{word} {SENTENCE}" for word in (LEFT.split() * 3)[number : number + 8]]


def paged(header: Callable[[int], str], footer: Callable[[int], str], count: int = 6) -> list[Callable[[Canvas], None]]:
    return [
        all_of(lines(header(n), y=800), lines(*body(n)), lines(footer(n), x=250, y=30)) for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    "footer", ["{}", "- {} -", "Page {} of 6", "{}/6", "Report of the winter {}"], ids=lambda text: text
)
def test_headers_and_page_numbers_are_dropped_after_their_first_page(drawn, footer):
    parsed = drawn(*paged(lambda n: "Report of the winter", footer.format))
    first, *others = parsed.text.split("\n\f")
    assert first.startswith("Report of the winter")
    assert others == ["\n".join(body(number)) for number in range(2, 7)]
    if not footer.startswith("Report"):
        assert first.endswith(body(1)[-1])


def test_headers_that_alternate_and_roman_numbers_are_dropped(drawn):
    romans = ["", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]
    pages = paged(lambda n: "On snow" if n % 2 else "Philomena Quist", lambda n: romans[n], count=8)
    texts = drawn(*pages).text.split("\n\f")
    assert texts[2:] == ["\n".join(body(number)) for number in range(3, 9)]


def test_a_chapter_with_the_number_of_the_page_is_a_header(drawn):
    def header(n: int) -> Callable[[Canvas], None]:
        chapter = "Snow" if n < 5 else "Ice"
        return all_of(lines(f"Chapter {chapter}", y=800), lines(str(n + 10), x=500, y=800), lines(*body(n)))

    texts = drawn(*(header(n) for n in range(1, 9))).text.split("\n\f")
    assert [text.startswith("Chapter") for text in texts] == [True, False, False, False, True, False, False, False]


def test_text_that_is_no_header_stays(drawn):
    last = "These words end every page of the book, but more text stands above and below them"
    pages = [
        all_of(
            lines(f"Part {'abcdef'[n]}", *body(n), f"{n * 7} 3 {n * 11}"), lines(last, y=600), lines(*body(n), y=580)
        )
        for n in range(6)
    ]
    text = drawn(*pages).text
    assert text.count(last) == 6
    assert all(f"Part {letter}" in text for letter in "abcdef")
    assert all(f"{n * 7} 3 {n * 11}" in text for n in range(6))


def test_pages_that_say_nothing_but_their_number_and_a_line_keep_it(drawn):
    texts = [f"Chapter {n}. The code of store room {n} is {4100 + 7 * n}." for n in range(12)]
    assert drawn(*map(lines, texts)).text.split("\n\f") == texts
    assert drawn(*(lines(f"Section {n}") for n in range(1, 7))).text.count("Section") == 6


# Headings and titles


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


# Pages without text


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


def scan(*texts: str) -> Callable[[Canvas], None]:
    """A page that is an image of some lines."""

    def draw(canvas: Canvas) -> None:
        from PIL import Image, ImageDraw, ImageFont
        from reportlab.lib.utils import ImageReader

        page = Image.new("L", (1240, 1754), "white")
        for number, text in enumerate(texts):
            ImageDraw.Draw(page).text((120, 150 + 60 * number), text, font=ImageFont.load_default(32))
        canvas.drawImage(ImageReader(page), 0, 0, *canvas._pagesize)

    return draw


@pytest.mark.slow
def test_scanned_pages_are_recognised_if_the_extra_is_installed(tmp_path):
    if not ocr.is_installed():
        pytest.skip("the extra ragx[ocr] is not installed")
    canvas = Canvas(str(tmp_path / "a.pdf"))
    for draw in (lines("Snow is white."), scan("The committee met in Zinal", "on the fourth of June"), image):
        draw(canvas)
        canvas.showPage()
    canvas.save()
    parsed = parse(tmp_path / "a.pdf")
    assert parsed.text == "Snow is white.\n\fThe committee met in Zinal\non the fourth of June"
    (reason,) = parsed.missing
    assert reason.startswith("page 3 has no text, and none was recognised")


def test_recognition_that_takes_too_long_costs_no_other_page(tmp_path, monkeypatch):
    if not ocr.is_installed():
        pytest.skip("the extra ragx[ocr] is not installed")
    monkeypatch.setattr(ocr, "MAX_SECONDS", 0.0)
    canvas = Canvas(str(tmp_path / "a.pdf"))
    for draw in (lines("Snow is white."), scan("The committee met in Zinal")):
        draw(canvas)
        canvas.showPage()
    canvas.save()
    parsed = parse(tmp_path / "a.pdf")
    assert parsed.text.strip() == "Snow is white."
    assert parsed.missing[0].startswith("page 2 has no text: recognition stops")
    for thread in threading.enumerate():
        if thread.name == ocr.THREAD:  # a process that ends before it would abort
            thread.join()
