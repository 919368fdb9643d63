"""Text recognition on the pages of a PDF file that have no text, if the extra `ragx[ocr]` is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from ragx.corpus.extract.pdf.words import Word

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

MAX_PAGES = 8
"""Pages of one file that are recognised: more would not fit into the time for a file."""
MAX_SECONDS = 40.0
"""Time after which no further page is begun."""
_LONGER_SIDE = 1800
"""Of the image of a page, in pixels."""
_MIN_SCORE = 0.6
_SIZE = 0.7
"""Of a font, in units of the height of its lines."""


def is_installed() -> bool:
    return all(find_spec(module) for module in ("rapidocr", "onnxruntime"))


def recognised_words(document: PdfDocument, indices: Sequence[int]) -> dict[int, list[Word]]:
    """The lines of the first pages of some, each as one word, by the index of the page."""
    from rapidocr import RapidOCR

    started = monotonic()
    engine: Any = RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # files are parsed in as many processes as cores
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )
    found: dict[int, list[Word]] = {}
    for index in indices[:MAX_PAGES]:
        if monotonic() - started > MAX_SECONDS:
            break
        page = document[index]
        scale = _LONGER_SIDE / max(*page.get_size(), 1)
        result = engine(page.render(scale=scale).to_numpy())
        found[index] = [
            Word(text, left, right, -bottom, _SIZE * (bottom - top), order=order)
            for order, (text, score, box) in enumerate(
                zip(result.txts or (), result.scores or (), () if result.boxes is None else result.boxes, strict=True)
            )
            if score >= _MIN_SCORE
            for (left, top), (right, bottom) in [(box.min(axis=0) / scale, box.max(axis=0) / scale)]
        ]
        page.close()
    return found
