"""RagxRetriever: the passages of a ragx index that are best for a question, as LangChain documents."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr

from ragx.index import Index
from ragx.index.manifest import current_generation
from ragx.langchain.documents import to_document
from ragx.langchain.embeddings import RagxEmbeddings
from ragx.rag import check_search, default_index
from ragx.retrieval import Method, Retriever
from ragx.types import Embedder
from ragx.util.text import without_surrogates

Folder = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]


class RagxRetriever(BaseRetriever):
    """Searches an index that `ragx index build` or a `RagxVectorStore` made, always in its current generation.

    >>> RagxRetriever(index="my-index", k=10).invoke("When did we sign the lease?")
    """

    model_config = ConfigDict(extra="forbid")

    index: Folder = Field(default_factory=lambda: str(default_index()))
    """An index folder; the default is `RAGX_INDEX`, or `indexes/default` in ragx's home."""
    k: int = 60
    """How many documents to return; a call may say otherwise."""
    method: Method = "hybrid"
    """`dense`, `bm25`, or both fused by reciprocal rank."""
    device: str | None = None
    """A torch device for the embedder; None: a GPU where there is one."""
    dtype: str | None = None
    """Number format of the embedder; None: what the device multiplies fastest."""

    _current: CurrentIndex | None = PrivateAttr(default=None)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self.k if k is None else k
        query = without_surrogates(query)
        check_search(query, k, self.method)
        if self._current is None:
            self._current = CurrentIndex(Path(self.index), self._embedder)
        hits = self._current.retriever().search(query, k, self.method)
        return [to_document(hit.passage) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await run_in_executor(None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k)

    def _embedder(self, index: Index) -> Embedder | None:
        if self.method == "bm25":
            return None
        name = index.manifest.embedder.name
        return RagxEmbeddings(model=name, device=self.device, dtype=self.dtype).embedder


class CurrentIndex:
    """The current generation of an index, opened again when another one has been published. Safe between threads."""

    def __init__(self, folder: Path, embedder: Callable[[Index], Embedder | None]) -> None:
        """`embedder` gives what questions are encoded with."""
        self._folder, self._embedder = folder, embedder
        self._lock = threading.Lock()
        self._opened: tuple[str, Retriever] | None = None

    def retriever(self) -> Retriever:
        """What searches it.

        Raises:
            IndexFolderError: there is no index, or it is damaged.
            ModelError: its embedder is missing or unusable.
        """
        with self._lock:
            generation = current_generation(self._folder).name
            if self._opened is None or self._opened[0] != generation:
                index = Index.open(self._folder)
                self._opened = (generation, Retriever(index, self._embedder(index)))
            return self._opened[1]
