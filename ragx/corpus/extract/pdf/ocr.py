"""Text recognition on the pages of a PDF file that have no text, if the extra `ragx[ocr]` is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from ragx.corpus.extract.pdf.words import Word

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

PAGE_SECONDS = 40.0
"""Time for a page: less than the parser's process has."""
THREAD = "ragx-ocr"
_LONGER_SIDE = 1800
"""Of the image of a page, in pixels."""
_MIN_SCORE = 0.6
_SIZE = 0.7
"""Of a font, in units of the height of its lines."""


def is_installed() -> bool:
    return all(find_spec(module) for module in ("rapidocr", "onnxruntime"))


def recognised_words(document: PdfDocument, indices: Sequence[int]) -> Iterator[tuple[int, list[Word]]]:
    """The lines of some pages, each as one word, with the index of the page.

    Ends before a page that fails or takes more than `PAGE_SECONDS`: recognition runs in a thread, which is then left
    alone with it, because a slow page must not cost the text of the others.
    """
    if not indices:
        return
    images: SimpleQueue[tuple[Any, float] | None] = SimpleQueue()
    found: SimpleQueue[list[Word] | None] = SimpleQueue()
    Thread(target=_recognise, args=(images, found), name=THREAD, daemon=True).start()
    try:
        for index in indices:
            page = document[index]  # rendered here, since PDFium must not be used in two threads
            scale = _LONGER_SIDE / max(*page.get_size(), 1)
            images.put((page.render(scale=scale).to_numpy(), scale))
            page.close()
            if (words := found.get(timeout=PAGE_SECONDS)) is None:
                return
            yield index, words
    except Empty:
        return
    finally:
        images.put(None)


def _recognise(images: SimpleQueue[tuple[Any, float] | None], found: SimpleQueue[list[Word] | None]) -> None:
    try:
        _answer(images, found)
    finally:
        found.put(None)


def _answer(images: SimpleQueue[tuple[Any, float] | None], found: SimpleQueue[list[Word] | None]) -> None:
    from rapidocr import RapidOCR

    engine: Any = RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # files are parsed in as many processes as cores
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )
    while (item := images.get()) is not None:
        image, scale = item
        result = engine(image)
        boxes = () if result.boxes is None else result.boxes
        lines = zip(result.txts or (), result.scores or (), boxes, strict=True)
        found.put(
            [
                Word(text, left, right, -bottom, _SIZE * (bottom - top), order=order)
                for order, (text, score, box) in enumerate(lines)
                if score >= _MIN_SCORE
                for (left, top), (right, bottom) in [(box.min(axis=0) / scale, box.max(axis=0) / scale)]
            ]
        )
