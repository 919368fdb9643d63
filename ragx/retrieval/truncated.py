"""TruncatedEmbedder: the first dimensions of another embedder's vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ragx.errors import ModelError
from ragx.retrieval.embedder import TextEmbedder


class TruncatedEmbedder(TextEmbedder):
    """The first `dimension` numbers of each vector, scaled to the length of all, so that normalised vectors stay so.

    Models trained with Matryoshka Representation Learning (Kusupati et al., 2022) lose little by it.
    """

    def __init__(self, embedder: TextEmbedder, dimension: int) -> None:
        """Truncate the vectors of `embedder`.

        Raises:
            ModelError: it has no more dimensions than that.
        """
        name = f"{embedder.name}:{dimension}"
        if not 0 < dimension < embedder.dimension:
            raise ModelError(
                f"cannot load embedder {name}: {embedder.name} has {embedder.dimension} dimensions; the number after"
                " the colon must be smaller"
            )
        super().__init__(
            name,
            hashlib.sha256(f"{embedder.fingerprint}:{dimension}".encode()).hexdigest(),
            dimension=dimension,
            window=embedder.window,
            tokenizer=embedder.tokenizer,
        )
        self._embedder = embedder

    def encode_question(self, question: str) -> np.ndarray:
        return _truncated(self._embedder.encode_question(question), self.dimension)

    def encode_whole(self, texts: Sequence[str]) -> np.ndarray:
        return _truncated(self._embedder.encode_whole(texts), self.dimension)


def _truncated(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """Vectors (…, d) with `dimension` numbers and the same lengths."""
    first = vectors[..., :dimension]
    lengths = np.linalg.norm(first, axis=-1, keepdims=True)
    scaled: np.ndarray = first * (np.linalg.norm(vectors, axis=-1, keepdims=True) / np.where(lengths, lengths, 1))
    return scaled
