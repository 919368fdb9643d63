"""The indexes that may be asked, by name. A name is looked up, never made into a path."""

from __future__ import annotations

import threading
from pathlib import Path

from ragx import models
from ragx.errors import ConfigError
from ragx.rag import RAG, default_index, open_index


class Indexes:
    """The one index that was named, or the default one and those in ragx's own folder; the same models read all."""

    def __init__(self, rag: RAG, folder: Path | None) -> None:
        """`rag` has the models and the first index, the only one if it was named by its `folder`."""
        self.first = (folder or default_index()).resolve()
        self._alone = folder is not None
        self._rag = rag
        self._opened: dict[Path, RAG] = {self.first: rag}
        self._opening = threading.Lock()

    @property
    def notes(self) -> list[str]:
        """What a user should know about the models."""
        return self._rag.notes

    @property
    def embedder(self) -> str:
        """Name of the embedder that the first index was built with."""
        return self._rag.retriever.index.manifest.embedder.name

    def folders(self) -> dict[str, Path]:
        """The folders by name, the first index first."""
        others = [] if self._alone else sorted((models.home() / "indexes").glob("*/CURRENT"))
        found = {self.first.name: self.first}
        for current in others:
            found.setdefault(current.parent.name, current.parent.resolve())
        return found

    def open(self, name: str | None) -> RAG:
        """The index of that name (None: the first), with the models.

        Raises:
            ConfigError: there is no such index.
            IndexFolderError, ModelError: it cannot be used.
        """
        folders = self.folders()
        if name is not None and name not in folders:
            raise ConfigError(f"there is no index {name!r}: choose one of {', '.join(folders)}")
        return self.open_folder(self.first if name is None else folders[name])

    def open_folder(self, folder: Path) -> RAG:
        """An index at a path that no visitor chose, kept open until `close`.

        Raises:
            IndexFolderError, ModelError: it cannot be used.
        """
        opened = self._opened.get(folder)  # one that is open waits for no other
        if opened is not None:
            return opened
        with self._opening:
            if folder not in self._opened:
                self._opened[folder] = RAG(
                    open_index(folder, method=self._rag.method),
                    self._rag.readers,
                    method=self._rag.method,
                    notes=self._rag.notes,
                )
            return self._opened[folder]

    def close(self, folder: Path) -> None:
        """Forget an opened index: it was rebuilt or is gone."""
        with self._opening:
            self._opened.pop(folder, None)
