"""Lexical search: BM25 over the words of all passages, in shards of `IndexSettings.lexical_shard_size` passages.

How rare a word is, is counted over all shards, so that their scores compare. tantivy computes a shard's scores by that
shard's counts; a weight on each word turns them into those of the whole index. Only the average length of passages
remains the shard's own, which hardly differs between shards of millions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ragx.index.lexical_shard import LexicalShard
from ragx.index.words import question_words


class Lexical:
    """All shards of a lexical index. Thread-safe."""

    def __init__(self, shards: Sequence[LexicalShard], size: int, language: str) -> None:
        """`shards`: of `size` rows each, the last one of at most as many."""
        self.shards = shards
        self.size = size
        self._language = language

    def __len__(self) -> int:
        """Number of passages that are not deleted."""
        return sum(map(len, self.shards))

    def rows(self, shard: int) -> slice:
        """The rows of a shard in the index."""
        return slice(shard * self.size, (shard + 1) * self.size)

    def weights(self, question: str) -> list[dict[str, float]]:
        """What to search each shard for: the words of the question and their weights in that shard.

        Stop words have none, so a question with nothing else matches no passage.

        Raises:
            LexicalError: a shard is damaged.
        """
        words = question_words(question, self._language)
        if len(self.shards) == 1:
            return [{word: float(count) for word, count in words.items()}]
        weights: list[dict[str, float]] = [{} for _ in self.shards]
        documents = sum(shard.documents for shard in self.shards)
        for word, count in words.items():
            frequencies = [shard.frequency(word) for shard in self.shards]
            rarity = _idf(sum(frequencies), documents)
            for shard, frequency, shard_weights in zip(self.shards, frequencies, weights, strict=True):
                if frequency:
                    shard_weights[word] = count * rarity / _idf(frequency, shard.documents)
        return weights

    def search(
        self, number: int, words: Mapping[str, float], k: int, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows in the index and scores, at most (k,), of the best passages of a shard.

        `words`, `k` and `wanted`, of `part`, as for `LexicalShard.best`.

        Raises:
            LexicalError: the shard is damaged.
        """
        found, scores = self.shards[number].best(words, k, wanted)
        return found + self.rows(number).start, scores

    def part(self, number: int, selected: np.ndarray | None) -> np.ndarray | None:
        """Which of a shard's rows are selected, (rows,) bool, of those of the index."""
        return None if selected is None else selected[self.rows(number)]


def lexical_shard_folder(lexical: Path, number: int) -> Path:
    """The folder of a shard in the folder of the lexical index."""
    return lexical / f"{number:05d}"


def _idf(frequency: int, documents: int) -> float:
    """BM25's inverse document frequency, as tantivy (and Lucene) computes it."""
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))
