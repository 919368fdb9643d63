"""RagxEmbeddings, and any LangChain embeddings as the embedder of a ragx index."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict

from ragx.config import IndexSettings
from ragx.retrieval import TextEmbedder, open_embedder
from ragx.types import Embedder, Passage, embedded_text
from ragx.util.text import without_surrogates

_lock = threading.Lock()


class RagxEmbeddings(BaseModel, Embeddings):
    """A ragx embedder: any sentence-transformers model. Loaded on first use, once per process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = IndexSettings().embedder
    """A registered name, a folder or a Hub id."""
    device: str | None = None
    """A torch device; None: a GPU where there is one."""
    dtype: str | None = None
    """bfloat16, float16 or float32; None: what the device multiplies fastest."""

    @property
    def embedder(self) -> TextEmbedder:
        """The loaded model.

        Raises:
            ModelError: it is missing or unusable.
        """
        return _load(self)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text, (n, d)."""
        vectors: list[list[float]] = self.embedder.embed_texts([without_surrogates(text) for text in texts]).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, (d,)."""
        vector: list[float] = self.embedder.encode_question(without_surrogates(text)).tolist()
        return vector


class LangChainEmbedder:
    """LangChain embeddings as an embedder. Class, model name and dimension identify them."""

    def __init__(self, embeddings: Embeddings) -> None:
        """Embed one text to find the dimension."""
        kind = type(embeddings)
        model = str(getattr(embeddings, "model", "") or getattr(embeddings, "model_name", ""))
        self._embeddings = embeddings
        self.name = f"{kind.__qualname__} {model}".strip()
        self.dimension = len(embeddings.embed_query("dimension"))
        identity = f"{kind.__module__}.{kind.__qualname__} {model} {self.dimension}"
        self.fingerprint = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        """Vectors (n, d) float32 of titles and texts."""
        vectors = self._embeddings.embed_documents([embedded_text(passage) for passage in passages])
        on_progress(len(passages))
        return np.array(vectors, np.float32).reshape(len(passages), self.dimension)

    def encode_question(self, question: str) -> np.ndarray:
        """A vector (d,) float32."""
        return np.array(self._embeddings.embed_query(question), np.float32)


def as_embedder(embeddings: Embeddings) -> Embedder:
    """LangChain embeddings as the embedder of an index."""
    return embeddings.embedder if isinstance(embeddings, RagxEmbeddings) else LangChainEmbedder(embeddings)


def _load(embeddings: RagxEmbeddings) -> TextEmbedder:
    with _lock:  # otherwise threads that need a model at once would each load it
        return _loaded(embeddings.model, embeddings.device, embeddings.dtype)


@lru_cache(maxsize=2)
def _loaded(model: str, device: str | None, dtype: str | None) -> TextEmbedder:
    return open_embedder(model, device=device, dtype=dtype)
