"""CurrentIndex: the newest generation of an index, reopened when another is published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.index import Index
from ragx.index.manifest import current_generation
from ragx.index.names import index_folder
from ragx.retrieval.loading import open_embedder
from ragx.retrieval.retriever import Retriever
from ragx.types import Embedder, SearchMethod
from ragx.util.device import parse_dtype, usable_device

if TYPE_CHECKING:
    import torch


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


def open_index(
    index: str | Path | None = None,
    *,
    method: SearchMethod = "hybrid",
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    retriever: Callable[..., Retriever] = Retriever,
    embedder: Callable[[str], Embedder] | None = None,
) -> CurrentIndex:
    """Open the newest generation of an index with the embedder it was built with; `bm25` needs no embedder.

    `retriever` makes the retriever from an `Index` and the embedder, which `embedder` opens by its name.

    Raises:
        IndexFolderError, ModelError, ConfigError: the index or a model is unusable, or an argument out of range.
    """
    if method == "bm25" and (device is not None or dtype not in (None, "auto")):  # otherwise torch is not imported
        parse_dtype(dtype, usable_device(device))
    opened = cache(embedder or partial(open_embedder, device=device, dtype=dtype))

    def open_generation(index: Index) -> Retriever:
        if method == "bm25":
            return retriever(index)
        return retriever(index, opened(index.manifest.embedder.name), device=device)

    current = CurrentIndex(index_folder(index), open_generation)
    _ = current.retriever  # report a bad index now
    return current


def _identity(generation: Path) -> tuple[str, int, int]:
    """Identifies a generation, even of an index that was removed and rebuilt."""
    status = (generation / "manifest.json").stat()
    return generation.name, status.st_ino, status.st_mtime_ns
