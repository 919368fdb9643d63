"""Words are whole, and their letters plain."""

from __future__ import annotations

from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from ragx.corpus.extract.pdf.layout import lines_of
from ragx.corpus.extract.pdf.words import Word
from tests.helpers.pages import LEFT, RIGHT, by_row, column, lines


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
