"""One writer at a time for an index, and none for a copy of one that is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragx.errors import IndexFolderError
from ragx.index.manifest import ORIGIN
from ragx.util.files import writer_lock


@contextmanager
def index_lock(folder: Path) -> Iterator[None]:
    """As `writer_lock`.

    Raises:
        IndexFolderError: as `writer_lock`, or the index is a read-only copy.
    """
    if (folder / ORIGIN).is_file():
        origin = (folder / ORIGIN).read_text(encoding="utf-8").strip()
        raise IndexFolderError(f"{origin} can only be read: change the index where it was built, and upload it again")
    with writer_lock(folder):
        yield
