"""Tune an approximate index: measure recall against exact search and choose the fastest settings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragx.config import Search
from ragx.errors import ConfigError, IndexFolderError
from ragx.index.dense import BATCH_ROWS, is_exact, set_search
from ragx.index.index import Index
from ragx.index.maintain import publish_search
from ragx.index.vectors import as_float32
from ragx.retrieval.retriever import Retriever

RERANKS = (1, 4, 16)
BREADTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Values of nprobe, and from 16 on of ef_search."""


@dataclass(frozen=True)
class Trial:
    """Search settings with their measured recall and latency."""

    search: Search
    recall: float
    """Share of the k nearest passages found."""
    p50: float
    """Median latency of a search, in milliseconds."""
    p95: float


@dataclass(frozen=True)
class Tuning:
    """All settings tried, and the fastest that reach the target recall."""

    trials: list[Trial]
    chosen: Trial


def tune_index(folder: Path, recall: float, *, k: int = 10, questions: int = 200) -> Tuning:
    """Publish the fastest search settings that reach a target recall, as the next generation.

    Passages drawn at random serve as questions, each excluded from its own results. Searches are timed one at a time,
    without embedding. Exact search uses the vectors as stored.

    Args:
        folder: an index whose `faiss` is approximate.
        recall: target share of the k nearest passages, above 0 and at most 1.
        k: passages to find.
        questions: number of searches to measure.

    Raises:
        ConfigError: `recall` is not between 0 and 1, or no settings reach it.
        IndexFolderError: there is no index in `folder`, it is damaged, exact, or holds too few passages; it cannot be
            written, or another process is writing to it.
    """
    if not 0 < recall <= 1:
        raise ConfigError(f"recall must be above 0 and at most 1, got {recall}")
    index = Index.open(folder)
    if all(is_exact(shard.faiss, shard.vectors) for shard in index.shards):
        raise IndexFolderError(f"{folder} is searched exactly: there is nothing to tune")
    rows = index.rows()
    if len(rows) <= k:
        raise IndexFolderError(f"{folder} has {len(rows)} passages: more than k = {k} are needed")
    drawn = np.sort(np.random.default_rng(0).choice(rows, min(questions, len(rows)), replace=False))
    vectors = np.stack([index.vector(row) for row in drawn.tolist()])
    wanted = exact_nearest(index, vectors, k, without=drawn)
    trials: list[Trial] = []
    for rerank in RERANKS:
        for search in _searches(index, rerank):
            trials.append(_try(index, search, vectors, drawn, wanted))
            if trials[-1].recall >= recall:
                break
    enough = [trial for trial in trials if trial.recall >= recall]
    if not enough:
        best = max(trials, key=lambda trial: trial.recall)
        raise ConfigError(
            f"no search settings of {folder} find {recall:.0%} of the {k} nearest; the best find {best.recall:.1%}"
            f" ({describe(best.search)}): lower the target, or rebuild with another --faiss"
        )
    chosen = min(enough, key=lambda trial: trial.p50)
    publish_search(folder, chosen.search)
    return Tuning(trials, chosen)


def describe(search: Search) -> str:
    """Search settings in one line."""
    probed = f"nprobe {search.nprobe}" if search.nprobe else "nprobe as built in"
    return f"ef_search {search.ef_search}, {probed}, rerank {search.rerank}"


def exact_nearest(index: Index, vectors: np.ndarray, k: int, *, without: np.ndarray) -> np.ndarray:
    """The k rows with the largest inner product with each vector, (q, d) float32, except row `without`[q]: (q, k)."""
    rows: np.ndarray = np.empty((len(vectors), 0), np.int64)
    scores: np.ndarray = np.empty((len(vectors), 0), np.float32)
    for shard in index.shards:
        for start in range(0, len(shard.vectors), BATCH_ROWS):
            block = as_float32(shard.vectors[start : start + BATCH_ROWS])
            numbers = np.arange(len(block)) + shard.offset + start
            found = vectors @ block.T
            if shard.live is not None:
                found[:, ~shard.live[start : start + BATCH_ROWS]] = -np.inf
            found[without[:, None] == numbers] = -np.inf
            scores = np.concatenate([scores, found], axis=1)
            rows = np.concatenate([rows, np.broadcast_to(numbers, found.shape)], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(scores, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
    return rows


def _searches(index: Index, rerank: int) -> list[Search]:
    """Search settings that differ for this index, fastest first."""
    import faiss

    lists = [faiss.try_extract_index_ivf(shard.faiss) for shard in index.shards]
    most = max((ivf.nlist for ivf in lists if ivf is not None), default=0)
    if most:
        return [Search(nprobe=min(breadth, most), rerank=rerank) for breadth in BREADTHS if breadth < 2 * most]
    if any("HNSW" in type(faiss.downcast_index(shard.faiss)).__name__ for shard in index.shards):
        return [Search(ef_search=breadth, rerank=rerank) for breadth in BREADTHS if breadth >= 16]
    return [Search(rerank=rerank)]


def _try(index: Index, search: Search, vectors: np.ndarray, without: np.ndarray, wanted: np.ndarray) -> Trial:
    for shard in index.shards:
        set_search(shard.faiss, search)
    retriever = Retriever(index)
    found = 0
    seconds = []
    for vector, own, expected in zip(vectors, without.tolist(), wanted.tolist(), strict=True):
        start = time.perf_counter()
        ranking = retriever.nearest(vector, len(expected) + 1, search.rerank)
        seconds.append(time.perf_counter() - start)
        found += len({row for row, _ in ranking if row != own} & set(expected))
    p50, p95 = (float(value) for value in np.percentile(seconds, (50, 95)) * 1000)
    return Trial(search, found / wanted.size, p50, p95)
