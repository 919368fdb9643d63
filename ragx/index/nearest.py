"""The nearest rows of a shard: FAISS proposes candidates, whose scores are recomputed from the vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.index.dense import BATCH_ROWS, is_exact
from ragx.index.faiss_gpu import GpuIndex
from ragx.index.vectors import as_float32

if TYPE_CHECKING:
    import faiss

SPARE = 16
"""Candidates fetched from `Flat` beyond k, for ties."""
ROUNDING = 1e-5
"""Limit of FAISS's float32 rounding error in an inner product, relative to the norms of the two vectors."""
GPU_ROUNDING = 1e-3
"""The same on a GPU, which rounds vectors to 11 bits when it multiplies them as float16 or TF32."""
SCAN_SHARE = 0.05
"""Share of live rows up to which a shard of an approximate index is searched row by row, which is exact."""
GPU_SHARE = 0.5
"""Share of live rows below which the CPU searches a shard: GPUs search all rows, then leave out those not wanted."""


def nearest(
    index: faiss.Index,
    vectors: np.ndarray,
    question: np.ndarray,
    k: int,
    live: np.ndarray | None = None,
    *,
    rerank: int,
    gpu: GpuIndex | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the greatest inner products, best first, ties by row.

    Args:
        index: the shard's FAISS index.
        vectors: the shard's stored vectors.
        question: (d,) float32.
        k: number of rows; fewer are found in a smaller shard, or by some approximate indexes that search all rows.
        live: (n,) bool, the rows to search; None: all.
        rerank: candidates of an approximate index, in multiples of k, whose scores are recomputed from the vectors;
            0: k candidates, with the index's own scores.
        gpu: searched instead of `index`, if most rows are live.

    Returns:
        Rows (k,) int64 and scores (k,) float64.
    """
    exact = is_exact(index, vectors)
    number = index.ntotal if live is None else int(np.count_nonzero(live))
    parameters: Any = None
    breadth = 1.0
    if live is not None:
        if number == 0 or not (exact or number > index.ntotal * SCAN_SHARE):
            return _scan(vectors, np.flatnonzero(live), question, k)
        breadth = index.ntotal / number
        if number < index.ntotal * GPU_SHARE:
            gpu = None
        parameters = _parameters(index, live, breadth) if gpu is None else None
    rounding = ROUNDING if gpu is None else GPU_ROUNDING
    fetch = k + SPARE if exact else max(rerank, 1) * k
    if parameters is None:
        fetch = math.ceil(fetch * breadth)
    while True:
        fetch = min(fetch, index.ntotal)
        if parameters is None:
            approximate, found = (gpu or index).search(question[None], fetch)
        else:
            approximate, found = index.search(question[None], fetch, params=parameters)
        rows = found[0][found[0] >= 0]
        exhausted = fetch == index.ntotal or len(rows) < fetch
        approximate = approximate[0, : len(rows)]
        alive = slice(None) if live is None else live[rows]
        worst, rows = approximate[-1:], rows[alive]
        if exact or rerank:
            candidates = as_float32(vectors[rows]).astype(np.float64)
            scores = (candidates * question).sum(axis=1)
        else:
            scores = approximate[alive].astype(np.float64)
        best = np.lexsort((rows, -scores))[:k]
        if exhausted:
            break
        if len(best) == k:
            if not exact:
                break
            # other rows score below FAISS's worst candidate, up to rounding: could one still be among the best k?
            error = rounding * float(np.linalg.norm(question) * np.linalg.norm(candidates, axis=1).max())
            if scores[best[-1]] > worst[0] + error:
                break
        fetch *= 4
    if live is not None and len(best) < min(k, number):  # live rows that a graph or the visited lists do not reach
        return _scan(vectors, np.flatnonzero(live), question, k)
    return rows[best], scores[best]


def _scan(vectors: np.ndarray, rows: np.ndarray, question: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, of some rows and without FAISS."""
    scores = np.empty(len(rows), np.float64)
    for start in range(0, len(rows), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        scores[part] = (as_float32(vectors[rows[part]]).astype(np.float64) * question).sum(axis=1)
    best = np.lexsort((rows, -scores))[:k]
    return rows[best], scores[best]


def _parameters(index: faiss.Index, live: np.ndarray, breadth: float) -> Any:
    """FAISS's parameters to search `live` rows alone, (n,) bool, `breadth` times as thoroughly; None: it has none."""
    import faiss

    library: Any = faiss  # its stubs lack the constructors' arguments
    core = faiss.downcast_index(index)
    selector = library.IDSelectorBitmap(np.packbits(live, bitorder="little"))
    if isinstance(core, faiss.IndexPreTransform):
        inner = _parameters(core.index, live, breadth)
        return None if inner is None else library.SearchParametersPreTransform(index_params=inner)
    if isinstance(core, faiss.IndexIVF):
        return library.SearchParametersIVF(sel=selector, nprobe=min(core.nlist, math.ceil(core.nprobe * breadth)))
    if isinstance(core, faiss.IndexHNSW):
        return library.SearchParametersHNSW(sel=selector, efSearch=math.ceil(core.hnsw.efSearch * breadth))
    if isinstance(core, faiss.IndexFlat | faiss.IndexScalarQuantizer):
        return library.SearchParameters(sel=selector)
    return None
