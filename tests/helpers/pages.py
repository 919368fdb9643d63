"""Pages of PDF files, drawn with reportlab."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest

from reportlab.pdfgen.canvas import Canvas

SENTENCE = "Fresh snow reflects most of the sunlight that falls on it"
LEFT = "the glacier retreats faster every summer because dark soil absorbs the light that snow would reflect"
RIGHT = "farmers in the valley below store the water of spring in ponds and lead it to fields through canals"


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


def by_row(canvas: Canvas, *columns: list[str], xs: Iterable[float]) -> None:
    for number, texts in enumerate(zip_longest(*columns, fillvalue="")):
        for x, text in zip(xs, texts, strict=True):
            canvas.drawString(x, 700 - 14 * number, text)


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
