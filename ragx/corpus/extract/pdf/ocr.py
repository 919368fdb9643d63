"""Text recognition on the pages of a PDF file that have no text, if the extra `ragx[ocr]` is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from ragx.corpus.extract.pdf.words import Word

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

MAX_PAGES = 8
"""Pages of one file that are recognised: more would not fit into the time for a file."""
MAX_SECONDS = 40.0
"""Time after the parsing of a file began, at which recognition stops: it must end within the time for a file."""
THREAD = "ragx-ocr"
_LONGER_SIDE = 1800
"""Of the image of a page, in pixels."""
_MIN_SCORE = 0.6
_SIZE = 0.7
"""Of a font, in units of the height of its lines."""


def is_installed() -> bool:
    return all(find_spec(module) for module in ("rapidocr", "onnxruntime"))


def recognised_words(
    document: PdfDocument, indices: Sequence[int], seconds: float = MAX_SECONDS
) -> dict[int, list[Word]]:
    """The lines of the first pages of some, each as one word, by the index of the page.

    Recognition runs in a thread that is left alone with its page after `seconds`: a slow page must not cost the text of
    the others.
    """
    scales: dict[int, float] = {}
    images: dict[int, Any] = {}
    for index in indices[:MAX_PAGES]:  # here, since PDFium must not be used in two threads
        page = document[index]
        scales[index] = _LONGER_SIDE / max(*page.get_size(), 1)
        images[index] = page.render(scale=scales[index]).to_numpy()
        page.close()
    found: dict[int, list[Word]] = {}
    late = Event()
    thread = Thread(target=_recognise, args=(images, scales, found, late), name=THREAD, daemon=True)
    thread.start()
    thread.join(max(seconds, 0))
    late.set()
    return dict(found)


def _recognise(images: dict[int, Any], scales: dict[int, float], found: dict[int, list[Word]], late: Event) -> None:
    from rapidocr import RapidOCR

    engine: Any = RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # files are parsed in as many processes as cores
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )
    for index, image in images.items():
        if late.is_set():
            return
        result = engine(image)
        found[index] = [
            Word(text, left, right, -bottom, _SIZE * (bottom - top), order=order)
            for order, (text, score, box) in enumerate(
                zip(result.txts or (), result.scores or (), () if result.boxes is None else result.boxes, strict=True)
            )
            if score >= _MIN_SCORE
            for (left, top), (right, bottom) in [(box.min(axis=0) / scales[index], box.max(axis=0) / scales[index])]
        ]
