"""Retriever: finds the best passages for a question by dense search, BM25, or both fused by reciprocal rank."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ragx.config import SearchOptions
from ragx.corpus.document import normalise
from ragx.errors import REPAIR_ADVICE, IndexFolderError
from ragx.index.faiss_gpu import GpuIndex, copy_to_gpus
from ragx.index.index import Index, Shard
from ragx.index.lexical_shard import LexicalError
from ragx.index.manifest import LEXICAL
from ragx.index.nearest import nearest
from ragx.retrieval.filters.fields import Fields
from ragx.types import Embedder, Hit, Passage, SearchMethod
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
        self.likelihood: float | None = None
        """How likely one of the hits holds the answer, by a calibrated reranker; None without one."""
        if unsearched:
            self.notes.append(f"{unsearched:.1%} of the passages were not searched by vector: their workers are lost")


class Retriever:
    """Searches one opened generation. Safe to share between threads."""

    def __init__(self, index: Index, embedder: Embedder | None = None, *, device: str | None = None) -> None:
        """Without an embedder only BM25 can search; `device`: where shards are searched, as of `copy_to_gpus`."""
        self.index = index
        self.embedder = embedder
        self.fields = Fields(index)
        self._copies = copy_to_gpus([shard.faiss for shard in index.shards], device)
        self._threads = ThreadPoolExecutor(min(len(index.shards), os.cpu_count() or 1) or 1, "ragx-search")

    def search(
        self, question: str, k: int, method: SearchMethod = "hybrid", selected: np.ndarray | None = None
    ) -> SearchResults[Hit]:
        """The k best passages for the question, best first; ties come in passage order.

        The question is normalised as the text of documents is (Unicode form C).

        Fewer when the index is smaller, or when BM25 finds fewer passages with a word of the question. Scores: inner
        product (dense), BM25, or the sum of 1 / (60 + rank) over both (hybrid).

        Args:
            question: the question.
            k: how many passages.
            method: how to search.
            selected: the rows to search, as `select` gives them; None: all. How rare a word is for BM25 is counted in
                all passages, whatever is selected.

        Raises:
            ConfigError: k is not positive or the method unknown.
            IndexFolderError: dense and hybrid without the embedder that the index was built with.
        """
        question = normalise(question)
        checked(SearchOptions, {"k": k, "method": method})
        depth = max(k, FUSION_DEPTH) if method == "hybrid" else k
        dense = SearchResults() if method == "bm25" else self._dense(question, depth, selected)
        words = [] if method == "dense" else self._bm25(question, depth, selected)
        ranking = fuse([dense, words])[:k] if method == "hybrid" else [*dense, *words]
        return SearchResults((Hit(self.index.passage(row), score) for row, score in ranking), dense.unsearched)

    def search_all(
        self, queries: Sequence[str], k: int, method: SearchMethod = "hybrid", selected: np.ndarray | None = None
    ) -> SearchResults[Hit]:
        """The k best passages for several queries, fused by reciprocal rank; for one query as `search`."""
        if len(queries) == 1:
            return self.search(queries[0], k, method, selected)
        results = [self.search(query, max(k, FUSION_DEPTH), method, selected) for query in queries]
        ranking = fuse_results(results, lambda hit: hit.passage.id)[:k]
        return SearchResults((Hit(hit.passage, score) for hit, score in ranking), results[0].unsearched)

    def select(self, *where: str | None) -> np.ndarray | None:
        """The rows, (total,) bool, that pass all of these filters (`docs/filters.md`); None: there is no filter.

        Raises:
            ConfigError: an expression cannot be read, or the index has no field of that name.
        """
        selected: np.ndarray | None = None
        for text in where:
            if text is not None:
                from ragx.retrieval.filters.grammar import parse_filter

                condition = parse_filter(text)
                self.fields.check(condition)
                mask = self.fields.mask(condition, text)
                selected = mask if selected is None else selected & mask
        return selected

    def named_fields(self, passage: Passage, where: str | None) -> dict[str, object]:
        """The fields of a passage that a filter names."""
        if where is None:
            return {}
        from ragx.retrieval.filters.grammar import parse_filter

        return self.fields.values(passage, parse_filter(where).fields)

    def nearest(
        self, vector: np.ndarray, k: int, rerank: int | None = None, selected: np.ndarray | None = None
    ) -> SearchResults[tuple[int, float]]:
        """The k rows with the largest inner product with a vector, (d,) float32; best first, ties by row.

        `rerank`: candidates that an approximate index proposes, in multiples of k; None: the index's setting.
        `selected`: the rows to search, (total,) bool, none of them deleted; None: all.
        """
        multiple = self.rerank(rerank)

        def search(shard: Shard, gpu: GpuIndex | None) -> tuple[np.ndarray, np.ndarray]:
            return search_shard(shard, vector, k, multiple, gpu, part_of(shard, selected))

        return SearchResults(best_of(self._threads.map(search, self.index.shards, self._copies), k))

    def rerank(self, wanted: int | None) -> int:
        """`wanted`, or the index's setting if it is None."""
        return self.index.manifest.settings.search.rerank if wanted is None else wanted

    def _dense(self, question: str, k: int, selected: np.ndarray | None) -> SearchResults[tuple[int, float]]:
        return self.nearest(self._checked_embedder().encode_question(question), k, selected=selected)

    def _bm25(self, question: str, k: int, selected: np.ndarray | None) -> Ranking:
        damaged = f"{self.index.folder / self.index.generation / LEXICAL} is damaged: {REPAIR_ADVICE}"
        try:
            ranking = self._search_words(self.index.lexical.weights(question), k, selected)
        except LexicalError as error:
            raise IndexFolderError(damaged) from error
        if any(not 0 <= row < self.index.total for row, _ in ranking):
            raise IndexFolderError(damaged)
        return ranking

    def _search_words(self, weights: Sequence[Mapping[str, float]], k: int, selected: np.ndarray | None) -> Ranking:
        """The k best passages by their words; `weights`: of the words, for each lexical shard."""
        lexical = self.index.lexical

        def search(number: int, words: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
            return lexical.search(number, words, k, lexical.part(number, selected))

        return best_of(self._threads.map(search, range(len(weights)), weights), k)

    def _checked_embedder(self) -> Embedder:
        if self.embedder is None:
            raise IndexFolderError(f"{self.index.built_with}: load it, or search with method bm25")
        self.index.check_embedder(self.embedder)
        return self.embedder


def part_of(shard: Shard, selected: np.ndarray | None) -> np.ndarray | None:
    """The rows of a shard, (n,) bool, of rows of its index; None: all."""
    return None if selected is None else selected[shard.offset : shard.offset + len(shard.vectors)]


def search_shard(
    shard: Shard,
    vector: np.ndarray,
    k: int,
    rerank: int,
    gpu: GpuIndex | None = None,
    selected: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of a shard with the largest inner product with a vector, (d,): rows in the index and scores, (k,).

    `selected`: the rows of the shard to search, (n,) bool, none of them deleted; None: all.

    Raises:
        IndexFolderError: FAISS names a row that does not exist.
    """
    live = shard.live if selected is None else selected
    try:
        rows, scores = nearest(shard.faiss, shard.vectors, vector, k, live, rerank=rerank, gpu=gpu)
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
