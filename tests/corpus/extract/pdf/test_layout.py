"""The text of a page is in reading order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.helpers.pages import LEFT, RIGHT, SENTENCE, all_of, by_row, column, lines


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
