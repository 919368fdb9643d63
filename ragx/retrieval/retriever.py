"""Retriever: finds the best passages for a question by dense search, BM25, or both fused by reciprocal rank."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ragx.config import SearchOptions
from ragx.corpus.document import normalise
from ragx.errors import REPAIR_ADVICE, IndexFolderError
from ragx.index.dense import nearest
from ragx.index.faiss_gpu import GpuIndex, copy_to_gpus
from ragx.index.index import Index, Shard
from ragx.index.lexical import LexicalError
from ragx.index.manifest import LEXICAL
from ragx.types import Embedder, Hit, SearchMethod
from ragx.util.settings import checked

RRF_CONSTANT = 60
"""Constant of reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009."""
FUSION_DEPTH = 100
"""Hits of each method or query that are fused, or k if that is more."""

Ranking = list[tuple[int, float]]
"""Rows and scores, best first."""

T = TypeVar("T")


class SearchResults(list[T]):
    """Hits, best first, and the share of the index that was not searched."""

    def __init__(self, hits: Iterable[T] = (), unsearched: float = 0.0) -> None:
        super().__init__(hits)
        self.unsearched = unsearched
        """Share of the passages, 0 to 1, whose vectors could not be searched because their workers are lost."""
        self.notes: list[str] = []
        """One line each: what the user should know about these results."""
        if unsearched:
            self.notes.append(f"{unsearched:.1%} of the passages were not searched by vector: their workers are lost")


class Retriever:
    """Searches one opened generation. Safe to share between threads."""

    def __init__(self, index: Index, embedder: Embedder | None = None, *, device: str | None = None) -> None:
        """Without an embedder only BM25 can search; `device`: where shards are searched, as of `copy_to_gpus`."""
        self.index = index
        self.embedder = embedder
        self._copies = copy_to_gpus([shard.faiss for shard in index.shards], device)
        self._threads = ThreadPoolExecutor(min(len(index.shards), os.cpu_count() or 1) or 1, "ragx-search")

    def search(self, question: str, k: int, method: SearchMethod = "hybrid") -> SearchResults[Hit]:
        """The k best passages for the question, best first; ties come in passage order.

        The question is normalised as the text of documents is (Unicode form C).

        Fewer when the index is smaller, or when BM25 finds fewer passages with a word of the question. Scores: inner
        product (dense), BM25, or the sum of 1 / (60 + rank) over both (hybrid).

        Raises:
            ConfigError: k is not positive or the method unknown.
            IndexFolderError: dense and hybrid without the embedder that the index was built with.
        """
        question = normalise(question)
        checked(SearchOptions, {"k": k, "method": method})
        depth = max(k, FUSION_DEPTH) if method == "hybrid" else k
        dense = SearchResults() if method == "bm25" else self._dense(question, depth)
        words = [] if method == "dense" else self._bm25(question, depth)
        ranking = fuse([dense, words])[:k] if method == "hybrid" else [*dense, *words]
        return SearchResults((Hit(self.index.passage(row), score) for row, score in ranking), dense.unsearched)

    def search_all(self, queries: Sequence[str], k: int, method: SearchMethod = "hybrid") -> SearchResults[Hit]:
        """The k best passages for several queries, fused by reciprocal rank; for one query as `search`."""
        if len(queries) == 1:
            return self.search(queries[0], k, method)
        results = [self.search(query, max(k, FUSION_DEPTH), method) for query in queries]
        ranking = fuse_results(results, lambda hit: hit.passage.id)[:k]
        return SearchResults((Hit(hit.passage, score) for hit, score in ranking), results[0].unsearched)

    def nearest(self, vector: np.ndarray, k: int, rerank: int | None = None) -> SearchResults[tuple[int, float]]:
        """The k rows with the largest inner product with a vector, (d,) float32; best first, ties by row.

        `rerank`: candidates that an approximate index proposes, in multiples of k; None: the index's setting.
        """
        multiple = self.rerank(rerank)
        shards = zip(self.index.shards, self._copies, strict=True)
        parts = self._threads.map(lambda pair: search_shard(pair[0], vector, k, multiple, pair[1]), shards)
        return SearchResults(best_of(parts, k))

    def rerank(self, wanted: int | None) -> int:
        """`wanted`, or the index's setting if it is None."""
        return self.index.manifest.settings.search.rerank if wanted is None else wanted

    def _dense(self, question: str, k: int) -> SearchResults[tuple[int, float]]:
        return self.nearest(self._checked_embedder().encode_question(question), k)

    def _bm25(self, question: str, k: int) -> Ranking:
        damaged = f"{self.index.folder / self.index.generation / LEXICAL} is damaged: {REPAIR_ADVICE}"
        try:
            rows, scores = self.index.lexical.best(question, k)
        except LexicalError as error:
            raise IndexFolderError(damaged) from error
        if np.any((rows < 0) | (rows >= self.index.total)):
            raise IndexFolderError(damaged)
        return list(zip(rows.tolist(), scores.tolist(), strict=True))

    def _checked_embedder(self) -> Embedder:
        if self.embedder is None:
            raise IndexFolderError(f"{self.index.built_with}: load it, or search with method bm25")
        self.index.check_embedder(self.embedder)
        return self.embedder


def search_shard(
    shard: Shard, vector: np.ndarray, k: int, rerank: int, gpu: GpuIndex | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of a shard with the largest inner product with a vector, (d,): rows in the index and scores, (k,).

    Raises:
        IndexFolderError: FAISS names a row that does not exist.
    """
    try:
        rows, scores = nearest(shard.faiss, shard.vectors, vector, k, shard.live, rerank=rerank, gpu=gpu)
    except IndexError as error:
        raise IndexFolderError(f"{shard.folder / 'faiss.index'} is damaged: {REPAIR_ADVICE}") from error
    return rows + shard.offset, scores


def best_of(parts: Iterable[tuple[np.ndarray, np.ndarray]], k: int) -> Ranking:
    """The k best rows and scores of several searches; best first, ties by row."""
    found = list(parts)
    if not found:
        return []
    rows, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    best = np.lexsort((rows, -scores))[:k]
    return list(zip(rows[best].tolist(), scores[best].tolist(), strict=True))


def fuse_results(results: Sequence[Sequence[T]], key: Callable[[T], str]) -> list[tuple[T, float]]:
    """The results of several queries and their fused scores, best first; ties in the order of the first query.

    `key` identifies a result.
    """
    first: dict[str, T] = {}
    for ranking in results:
        for result in ranking:
            first.setdefault(key(result), result)
    numbers, found = {name: number for number, name in enumerate(first)}, list(first.values())
    fused = fuse([[(numbers[key(result)], 0.0) for result in ranking] for ranking in results])
    return [(found[number], score) for number, score in fused]


def fuse(rankings: list[Ranking]) -> Ranking:
    """Reciprocal rank fusion: a row scores the sum of 1 / (60 + rank) over the rankings that hold it."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (RRF_CONSTANT + rank)
    return sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
