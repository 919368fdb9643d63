"""Headers, footers and page numbers are dropped after their first page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.helpers.pages import LEFT, SENTENCE, all_of, lines


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
