"""Text is recognised on scanned pages, within limits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from ragx.corpus import Document
from ragx.corpus.extract.parser import Parser
from ragx.corpus.extract.pdf import ocr, parse
from tests.helpers.pages import image, lines, scan

pytestmark = pytest.mark.skipif(not ocr.is_installed(), reason="the extra ragx[ocr] is not installed")


@pytest.fixture
def scanned(tmp_path) -> Callable[..., Path]:
    """A file of pages: a function that draws one, or the lines that the image of one shows."""

    def scanned(*pages: Callable[[Canvas], object] | str) -> Path:
        canvas = Canvas(str(tmp_path / "a.pdf"))
        for page in pages:
            (scan(*page.split("\n")) if isinstance(page, str) else page)(canvas)
            canvas.showPage()
        canvas.save()
        return tmp_path / "a.pdf"

    return scanned


@pytest.mark.slow
def test_scanned_pages_are_recognised(scanned):
    calls: list[None] = []
    pages = (lines("Snow is white."), "The committee met in Zinal\non the fourth of June", image)
    parsed = parse(scanned(*pages), working=lambda: calls.append(None))
    assert parsed.text == "Snow is white.\n\fThe committee met in Zinal\non the fourth of June"
    (reason,) = parsed.missing
    assert reason.startswith("page 3 has no text, and none was recognised")
    assert len(calls) == 1 + 2  # before the first page without text and after each


@pytest.mark.slow
def test_pages_beyond_the_limit_are_named_with_the_option(scanned):
    parsed = parse(scanned(lines("Snow is white."), *(f"The committee met in room {n}" for n in "123")), ocr_pages=1)
    assert parsed.text.strip("\f\n") == "Snow is white.\n\fThe committee met in room 1"
    (reason,) = parsed.missing
    assert reason.startswith("pages 3-4 have no text")
    assert "--ocr-pages 3" in reason


def test_without_pages_to_recognise_nothing_is_loaded(scanned):
    parsed = parse(scanned(lines("Snow is white."), "The committee met in Zinal"), ocr_pages=0)
    assert parsed.text.strip("\f\n") == "Snow is white."
    assert "--ocr-pages 1" in parsed.missing[0]


@pytest.mark.slow
def test_each_page_has_the_time_limit_of_a_file(scanned):
    page = "The committee met in a room of the town hall and talked about snow"
    with_loading, alone = (seconds(lambda: parse(scanned(page))) for _ in range(2))
    limit = 3 * with_loading
    count = 1 + math.ceil(limit / alone)
    parser = Parser(max_seconds=limit)
    (document,) = parser.read_file(scanned(*[page] * count), "a", "pdf")
    parser.close()
    assert isinstance(document, Document)
    assert document.text.count("committee") == count


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def test_recognition_that_takes_too_long_costs_no_other_page(scanned, monkeypatch):
    monkeypatch.setattr(ocr, "PAGE_SECONDS", 0.0)
    parsed = parse(scanned(lines("Snow is white."), "The committee met in Zinal"))
    assert parsed.text.strip() == "Snow is white."
    assert parsed.missing[0].startswith("page 2 has no text: recognition failed")
    for thread in threading.enumerate():
        if thread.name == ocr.THREAD:  # a process that ends before it would abort
            thread.join()
