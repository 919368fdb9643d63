"""CurrentIndex: the newest generation of an index, reopened when another is published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ragx.index import Index
from ragx.index.manifest import current_generation
from ragx.retrieval.retriever import Retriever


class CurrentIndex:
    """Provides the retriever of the newest generation, so that deleted text is not served. Thread-safe.

    A question keeps the retriever it took: it never mixes two generations or waits for a later reopening.
    """

    def __init__(self, folder: Path, open_index: Callable[[Index], Retriever]) -> None:
        """Open nothing yet; `open_index` makes the retriever of an opened index."""
        self.folder = folder
        self._open = open_index
        self._opening = threading.Lock()
        self._opened: tuple[tuple[str, int, int], Retriever] | None = None

    @property
    def retriever(self) -> Retriever:
        """The retriever of the newest generation.

        Raises:
            IndexFolderError: there is no index in the folder, or it is damaged.
        """
        while True:
            newest = _identity(current_generation(self.folder))
            opened = self._opened
            if opened is not None and opened[0] == newest:
                return opened[1]
            with self._opening:
                if self._opened is opened:  # otherwise another thread has just opened it
                    index = Index.open(self.folder)
                    self._opened = (_identity(self.folder / index.generation), self._open(index))


def _identity(generation: Path) -> tuple[str, int, int]:
    """Identifies a generation, even of an index that was removed and rebuilt."""
    status = (generation / "manifest.json").stat()
    return generation.name, status.st_ino, status.st_mtime_ns
