"""Embedders without a model, and passages to index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from ragx.types import Passage


def passage(number: int, text: str, title: str = "") -> Passage:
    return Passage(f"doc{number}#0", f"doc{number}", title, text, 0, 0, len(text), "toy.txt")


def passages(texts: Sequence[str]) -> list[Passage]:
    return [passage(number, text) for number, text in enumerate(texts)]


class NumberEmbedder:
    """The vector of a text is the numbers in it, so that tests can choose any vector."""

    name = "numbers"

    def __init__(self, dimension: int, fingerprint: str = "n" * 64) -> None:
        self.dimension = dimension
        self.fingerprint = fingerprint
        self.encoded = 0

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        self.encoded += len(passages)
        on_progress(len(passages))
        return np.array([self.encode_question(passage.text) for passage in passages], np.float32)

    def encode_question(self, question: str) -> np.ndarray:
        return np.array([float(number) for number in question.split()], np.float32)


class WordEmbedder:
    """The vector of a text is the sum of random vectors for its words."""

    name = "words"

    def __init__(self, fingerprint: str = "w" * 64, dimension: int = 16) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.encoded = 0

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        self.encoded += len(passages)
        on_progress(len(passages))
        return np.array([self.encode_question(passage.text) for passage in passages], np.float32)

    def encode_question(self, question: str) -> np.ndarray:
        return sum((self._vector(word) for word in question.split()), np.zeros(self.dimension, np.float32))

    def _vector(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
        return np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)
