"""The indexes that visitors can ask, by name. A name is looked up, never turned into a path."""

from __future__ import annotations

import threading
from pathlib import Path

from ragx.errors import ConfigError
from ragx.index import Index
from ragx.index.names import default_index, named_indexes
from ragx.rag import RAG
from ragx.retrieval import CurrentIndex, Retriever, open_embedder
from ragx.types import ReaderName


class Indexes:
    """The index that was named, or else the default one and the named ones; the same models read all of them."""

    def __init__(self, rag: RAG, folder: Path | None, model: str) -> None:
        """`rag` has the models and the first index, which is the only one if it was named by its `folder`.

        `model` is the name of the decoder or reader.
        """
        self.model = model
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
    def readers(self) -> list[ReaderName]:
        """How the models can read, the default first."""
        return list(self._rag.readers)

    @property
    def embedder(self) -> str:
        """Name of the embedder that the first index was built with."""
        return self._rag.retriever.index.manifest.embedder.name

    def folders(self) -> dict[str, Path]:
        """Folders by name, the first index first."""
        others = {} if self._alone else named_indexes()
        found = {self.first.name: self.first}
        for name, folder in others.items():
            found.setdefault(name, folder.resolve())
        return found

    def open(self, name: str | None) -> RAG:
        """The index of this name (None: the first), with the models.

        Raises:
            ConfigError: there is no such index.
            IndexFolderError, ModelError: it cannot be used.
        """
        folders = self.folders()
        if name is not None and name not in folders:
            raise ConfigError(f"there is no index {name!r}: choose one of {', '.join(folders)}")
        return self.open_folder(self.first if name is None else folders[name], self._rag.where)

    def open_folder(self, folder: Path, where: str | None = None) -> RAG:
        """An index at a path that no visitor chose, kept open until `close`; `where`: as of `RAG.from_index`.

        Raises:
            IndexFolderError, ModelError: it cannot be used.
        """
        opened = self._opened.get(folder)  # one that is open waits for no other
        if opened is not None:
            return opened
        with self._opening:
            if folder not in self._opened:
                current = CurrentIndex(folder, self._retriever)
                _ = current.retriever  # errors are raised here
                rag = self._rag
                self._opened[folder] = RAG(
                    current,
                    rag.readers,
                    method=rag.method,
                    reranker=rag.reranker,
                    where=where,
                    effort=rag.effort,
                    notes=rag.notes,
                )
            return self._opened[folder]

    def close(self, folder: Path) -> None:
        """Forget an opened index."""
        with self._opening:
            self._opened.pop(folder, None)

    def _retriever(self, index: Index) -> Retriever:
        """Shares the first index's embedder where it is the same."""
        embedder = self._rag.retriever.embedder
        if embedder is None or embedder.fingerprint != index.manifest.embedder.fingerprint:
            embedder = open_embedder(index.manifest.embedder.name)
        return Retriever(index, embedder)
