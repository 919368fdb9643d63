"""Parse PDF files as if no text could be recognised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reportlab.pdfgen.canvas import Canvas

from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.pdf import ocr, parse


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
