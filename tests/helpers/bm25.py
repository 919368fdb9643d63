"""BM25 by its formula."""

from __future__ import annotations

import math
from collections import Counter


def formula(texts: list[str], question: str, size: int | None = None, k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Scores of texts of words without stop words and endings; lengths are compared among `size` texts at a time."""
    documents = [Counter(text.split()) for text in texts]
    size = size or len(texts)
    averages = []
    for row in range(len(texts)):
        shard = documents[row // size * size : (row // size + 1) * size]
        averages.append(sum(document.total() for document in shard) / len(shard))
    scores = [0.0] * len(texts)
    for word in question.split():
        frequency = sum(word in document for document in documents)
        idf = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
        for row, (document, average) in enumerate(zip(documents, averages, strict=True)):
            length = k1 * (1 - b + b * _stored_length(document.total()) / average)
            scores[row] += idf * (k1 + 1) * document[word] / (document[word] + length)
    return scores


def _stored_length(length: int) -> int:
    """tantivy stores a length in one byte: exactly up to 40, then in steps of an eighth to a sixteenth."""
    beyond = length - 24
    steps = max(0, beyond.bit_length() - 4)
    return length if beyond < 0 else 24 + (beyond >> steps << steps)
