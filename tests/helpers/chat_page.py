"""A page in the test's process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.page import build_page
from ragx_apps.chat.serving import launch
from ragx_apps.queue import QuestionQueue

from ragx.rag import RAG

HOSTILE = (
    "<script>document.title = 'owned'</script> <img src='http://127.0.0.1:9/a.png' onerror='document.title=1'>"
    " ![b](http://127.0.0.1:9/b.png) [c](javascript:alert(1)) ${alert(1)} `{{value}}` snow </mark></details>"
)
NOTES = {
    "snow.txt": "Snow is cold. Fresh snow reflects most of the sunlight, and ice less. It melts.",
    "soil.txt": "Dark soil absorbs most of the sunlight and warms up quickly.",
    "hostile.txt": HOSTILE,
    **{f"day{number}.txt": f"On day {number} there was snow in the sunlight." for number in range(20)},
}
SENTENCE = " fresh snow reflects most of the sunlight."


@contextmanager
def serving_page(
    rag: RAG,
    queue: QuestionQueue,
    index: Path,
    uploads: Path,
    *,
    feedback: Path | None = None,
    auth: tuple[str, str] | None = None,
    root_path: str | None = None,
) -> Iterator[str]:
    """The address of a page over `rag`, whose index lies at `index`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = build_page(Indexes(rag, index, "tiny"), queue, uploads, feedback)
    try:
        yield launch(blocks, "127.0.0.1", port, auth, root_path)
    finally:
        blocks.close(verbose=False)
