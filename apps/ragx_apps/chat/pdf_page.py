"""A page of a PDF file as an image, drawn in a child process (this file, run): visitors upload files of any origin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SIZE = 1200
"""Pixels of the longer side."""
MAX_SECONDS = 20
MAX_MEMORY_BYTES = 2 << 30


def draw_page(path: Path, number: int) -> bytes | None:
    """A page, from 1, as a PNG image; None if it cannot be drawn: the file is gone or damaged, or takes too long."""
    command = [sys.executable, "-I", __file__, str(path), str(number)]
    try:
        return subprocess.run(command, capture_output=True, timeout=MAX_SECONDS, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return None


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _draw(path: str, number: int) -> None:
    from pypdfium2 import PdfDocument

    page = PdfDocument(path)[number - 1]
    image = page.render(scale=SIZE / max(page.get_size())).to_pil()
    image.save(sys.stdout.buffer, "PNG")


if __name__ == "__main__":
    _limit_memory()
    _draw(sys.argv[1], int(sys.argv[2]))
