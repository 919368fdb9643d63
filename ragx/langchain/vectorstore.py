"""RagxVectorStore: a ragx index as a LangChain vector store."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ragx.config import IndexSettings
from ragx.corpus.document import normalise
from ragx.errors import ConfigError
from ragx.index import read_manifest, update_index
from ragx.langchain.documents import to_document, to_passage
from ragx.langchain.embeddings import RagxEmbeddings, as_embedder
from ragx.langchain.filters import metadata_condition
from ragx.retrieval import CurrentIndex, Retriever
from ragx.types import Embedder
from ragx.util.text import without_surrogates

Filter: TypeAlias = Mapping[str, Any] | Callable[[Document], bool]
"""Conditions on the metadata (`metadata_condition`), or a predicate on documents."""


class RagxVectorStore(VectorStore):
    """Documents in a ragx index on disk; each is one passage, with its metadata as JSON.

    Every call that adds or deletes publishes a new generation of the index: atomically, even in a crash, and
    without embedding existing documents again. Many documents in one call are cheaper than many calls. Every search
    uses the current generation, whichever process published it. `ragx ask`, `ragx search` and `RagxRetriever` can
    use the same folder, if its embeddings are `RagxEmbeddings`.

    >>> store = RagxVectorStore("my-index")
    >>> store.add_texts(["Fresh snow reflects up to 90 percent of sunlight."], [{"title": "Snow"}])
    """

    def __init__(self, folder: str | Path, embedding: Embeddings | None = None) -> None:
        """Use an index folder; it is created when the first document is added.

        Args:
            folder: an index folder, or one that is empty or does not exist yet.
            embedding: the embeddings of the index; None: those it was built with, or the default for a new one.
        """
        self.folder = Path(folder)
        self._embedding = embedding
        self._current = CurrentIndex(self.folder, Retriever)  # questions come as vectors
        self._writing = threading.Lock()  # writers in other processes get an error

    @property
    def embeddings(self) -> Embeddings:
        """What documents and questions are embedded with."""
        if self._embedding is None:
            name = read_manifest(self.folder).embedder.name if self._exists() else IndexSettings().embedder
            self._embedding = RagxEmbeddings(model=name)
        return self._embedding

    @cached_property
    def _embedder(self) -> Embedder:
        return as_embedder(self.embeddings)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        folder: str | Path | None = None,
        **kwargs: Any,
    ) -> RagxVectorStore:
        """A store in `folder`, with these texts added.

        Raises:
            ConfigError: no folder is given.
        """
        if folder is None:
            raise ConfigError("folder is required: pass folder=…")
        store = cls(folder, embedding)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts with their metadata; as `add_documents`."""
        return super().add_texts(list(texts), metadatas, ids=ids, **kwargs)

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add documents; a document replaces one with the same id.

        Args:
            documents: `title` and `source` in the metadata are shown in citations; the title is embedded too.
            ids: one for each document; None: its own, or a new one.
            kwargs: none are used.

        Returns:
            The ids.

        Raises:
            ValueError: there are not as many ids as documents.
            ConfigError: metadata is not JSON.
            IndexFolderError: the index has other embeddings, cannot be written, or another process writes to it.
        """
        given = [document.id for document in documents] if ids is None else ids
        named = [id or str(uuid.uuid4()) for id in given]
        passages = [
            to_passage(
                document.model_copy(update={"page_content": without_surrogates(document.page_content)}),
                id,
                keep_metadata=True,
            )
            for document, id in zip(documents, named, strict=True)
        ]
        if passages:
            settings = IndexSettings(embedder=self._embedder.name)
            with self._writing:
                update_index(self.folder, self._embedder, add=passages, create=settings, quiet=True)
        return named

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by their ids, or all; ids that are not there are passed over.

        Raises:
            IndexFolderError: the index cannot be written, or another process writes to it.
        """
        if not self._exists():
            return True
        with self._writing:
            if ids is None:
                ids = [id for id, _, _ in self._current.retriever.index.entries()]
            update_index(self.folder, delete=ids, quiet=True)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; ids that are not there are passed over."""
        if not self._exists():
            return []
        index = self._current.retriever.index
        rows = index.find(set(ids))
        return [to_document(index.passage(rows[id])) for id in ids if id in rows]

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any) -> list[Document]:
        """The k documents nearest to a question that pass the filter, a function or conditions on the metadata.

        >>> store.similarity_search("pump", filter={"year": {"$gte": 2020}, "language": {"$in": ["en", "de"]}})
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k documents nearest to a question, and their inner products with it; best first."""
        return [(document, score) for document, score, _ in self._search(query, k, filter)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k documents of greatest inner product with a question, and their cosines with it; negative ones as 0.

        Unrelated text has a cosine near 0 with most embedders, `all-minilm-l6-v2` among them; others need a threshold
        of their own.
        """
        vector = self._vector(query)
        found = self._search(vector.tolist(), k, filter)
        return [(document, max(_cosine(vector, nearby), 0.0)) for document, _, nearby in found]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await run_in_executor(None, self._similarity_search_with_relevance_scores, query, k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """The k documents nearest to a vector."""
        return [document for document, _, _ in self._search(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Of the `fetch_k` documents nearest to a question, k that differ from one another.

        Args:
            query: the question.
            k: how many documents to return.
            fetch_k: how many to choose from.
            lambda_mult: 1 for the nearest, 0 for the most different.
            filter: as in `similarity_search`.
            kwargs: none are used.
        """
        return self._diverse(query, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, of a vector."""
        return self._diverse(embedding, k, fetch_k, lambda_mult, filter)

    def _diverse(
        self, query: str | list[float], k: int, fetch_k: int, lambda_mult: float, filter: Filter | None
    ) -> list[Document]:
        vector = self._vector(query)
        found = self._search(vector.tolist(), max(k, fetch_k), filter)
        vectors = [nearby.tolist() for _, _, nearby in found]
        return [found[n][0] for n in maximal_marginal_relevance(vector, vectors, lambda_mult, k)] if found else []

    def _search(
        self, query: str | list[float], k: int, filter: Filter | None
    ) -> list[tuple[Document, float, np.ndarray]]:
        """The k documents nearest to a question or vector that pass the filter, their scores and vectors."""
        if k < 1:
            raise ConfigError(f"k must be a positive integer, got {k}")
        condition = metadata_condition(filter) if filter and not callable(filter) else None
        if not self._exists():
            return []
        retriever = self._current.retriever
        index = retriever.index
        index.check_embedder(self._embedder)
        selected = None if condition is None else retriever.fields.mask(condition, repr(filter))
        found: list[tuple[Document, float, np.ndarray]] = []
        for row, score in _nearest_rows(retriever, self._vector(query), k, selected):
            document = to_document(index.passage(row))
            if not callable(filter) or filter(document):
                found.append((document, score, index.vector(row)))
                if len(found) == k:
                    break
        return found

    def _vector(self, query: str | list[float]) -> np.ndarray:
        if isinstance(query, str):
            return self._embedder.encode_question(normalise(query))
        if len(query) != self._embedder.dimension:
            raise ConfigError(f"a vector must have {self._embedder.dimension} numbers, got {len(query)}")
        return np.array(query, np.float32)

    def _exists(self) -> bool:
        return (self.folder / "CURRENT").exists()


def _nearest_rows(
    retriever: Retriever, vector: np.ndarray, k: int, selected: np.ndarray | None
) -> Iterator[tuple[int, float]]:
    """The selected rows and their scores by distance to a vector, best first, fetched in growing batches."""
    seen: set[int] = set()
    while True:
        ranking = retriever.nearest(vector, k, selected=selected)
        yield from ((row, score) for row, score in ranking if row not in seen)
        if len(ranking) < k:
            return
        seen |= {row for row, _ in ranking}
        k *= 4


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine similarity of two vectors (d,); 0 if one is zero."""
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return min(max(float(a @ b) / lengths, -1.0), 1.0) if lengths else 0.0
