"""TextEmbedder: passages and questions to vectors, whatever computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ragx.corpus.chunking import token_spans, windows
from ragx.types import Passage, embedded_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PASSAGES_PER_CALL = 256
"""Passages sorted by length and batched together; progress is reported after each call."""


class TextEmbedder(ABC):
    """Embeds passages and questions. Safe to share between threads."""

    def __init__(
        self, name: str, fingerprint: str, *, dimension: int, window: int | None, tokenizer: Tokenizer | None
    ) -> None:
        """`open_embedder` loads one."""
        self.name = name
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.window = window
        """Maximum number of tokens of a text that the model reads, special tokens included; None: any number."""
        self.tokenizer = tokenizer
        """Reads control strings in a text as plain text, and neither truncates nor pads; None: the model has no fast
        tokenizer."""

    @abstractmethod
    def encode_question(self, question: str) -> np.ndarray:
        """Encode a question: (d,) float32."""

    @abstractmethod
    def encode_whole(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts that the model reads whole, as passages: (n, d) float32."""

    def encode_passages(
        self, passages: Sequence[Passage], on_progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """Encode titles and texts: (n, d) float32. `on_progress` gets the number of passages just done."""
        return self.embed_texts([embedded_text(passage) for passage in passages], on_progress)

    def embed_texts(self, texts: Sequence[str], on_progress: Callable[[int], object] = lambda _: None) -> np.ndarray:
        """Encode texts as passages without titles: (n, d) float32. `on_progress` gets the number just done.

        A text longer than the model reads has the mean of the vectors of its windows, weighted by their characters, and
        scaled to their mean length.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), PASSAGES_PER_CALL):
            part = texts[start : start + PASSAGES_PER_CALL]
            pieces = [self._pieces(text) for text in part]
            encoded = self.encode_whole(list(chain.from_iterable(pieces)))
            ends = np.cumsum([len(each) for each in pieces])
            for row, of_text in enumerate(np.split(encoded, ends[:-1]), start=start):
                lengths = list(map(len, pieces[row - start]))
                vectors[row] = of_text[0] if len(of_text) == 1 else _mean(of_text, lengths)
            on_progress(len(part))
        return vectors

    def _pieces(self, text: str) -> list[str]:
        """The text in windows that the model reads whole."""
        window, tokenizer = self.window, self.tokenizer
        if window is None or tokenizer is None or len(text) < window:  # a token has at least one character
            return [text]
        size = window - tokenizer.num_special_tokens_to_add(is_pair=False)
        return [text[start:end] for start, end in windows(token_spans(text, tokenizer), size, 0)] or [text]


def _mean(vectors: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    """The mean of vectors, (n, d), scaled to their mean length, so that normalised vectors give a normalised one."""
    mean: np.ndarray = np.average(vectors, axis=0, weights=weights)
    length = np.linalg.norm(mean)
    return mean * (np.linalg.norm(vectors, axis=1).mean() / length) if length else mean
