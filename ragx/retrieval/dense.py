"""FAISS: one inner-product index a shard, built from the shard's vectors, which stay the truth.

FAISS proposes candidates; their scores are computed again from the vectors, in float64. So a passage has the same
score in any sharding, and compressed indexes (PQ, SQ) rank by exact scores. With `Flat` the result is exact, ties
included: passages of equal score come in passage order.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import ConfigError
from ragx.retrieval.durable import durable_file

if TYPE_CHECKING:
    import faiss

SPARE = 16
"""Candidates that `Flat` is asked for beyond k: room for ties."""
RERANKED = 4
"""Candidates that an approximate index is asked for, in multiples of k: the best k by exact score are kept."""
HNSW_EF_SEARCH = 128
IVF_PROBED = 1 / 16
"""Share of an IVF index's lists that a search visits, at least 16 lists."""
ROUNDING = 1e-5
"""Bound on FAISS's float32 rounding error in an inner product, relative to the norms of the two vectors."""

_limits = threading.Lock()  # FAISS's limits are the whole process's


def new_index(factory: str, dimension: int) -> faiss.Index:
    """An empty inner-product index.

    Raises:
        ConfigError: FAISS does not know the factory string, or not for inner products of this dimension.
    """
    import faiss

    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].replace("\n", " ")
        raise ConfigError(
            f"faiss: {factory!r} is not an inner-product index of {dimension} dimensions ({reason}); "
            "use Flat, HNSW32 or IVF256,PQ32"
        ) from None


def check_trainable(factory: str, dimension: int, shard_sizes: list[int]) -> None:
    """Check that the largest shard has enough vectors to train the index on.

    Raises:
        ConfigError: it has too few, or the factory string is invalid.
    """
    needed = training_minimum(new_index(factory, dimension))
    if (largest := max(shard_sizes)) < needed:
        raise ConfigError(
            f"faiss: {factory!r} needs at least {needed:,} passages in a shard and there are {largest:,}: use Flat"
        )


def training_minimum(index: faiss.Index) -> int:
    """Vectors without which FAISS refuses to train the index: one a centroid."""
    import faiss

    ivf, core = _parts(index)
    centroids = [ivf.nlist] if ivf is not None else []
    storage = faiss.downcast_index(core.storage) if hasattr(core, "storage") else None
    centroids += [part.pq.ksub for part in (ivf, core, storage) if part is not None and hasattr(part, "pq")]
    return max(centroids, default=0)


def build_faiss(vectors: np.ndarray, factory: str) -> faiss.Index:
    """Train an index on the vectors, (n, d) float32, and add them. A last shard too small to train becomes `Flat`.

    Raises:
        ConfigError: FAISS cannot train it on these vectors.
    """
    index = new_index(factory, vectors.shape[1])
    if len(vectors) < training_minimum(index):
        index = new_index("Flat", vectors.shape[1])
    try:
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].replace("\n", " ")
        raise ConfigError(
            f"faiss: cannot build {factory!r} from {len(vectors):,} vectors ({reason}); use Flat"
        ) from None
    return index


def write_faiss(index: faiss.Index, path: Path) -> None:
    """Write the index durably.

    Raises:
        IndexFolderError: it cannot be written.
    """
    import faiss

    with durable_file(path) as file:
        # Not faiss.write_index(index, path): that only prints a failure to flush the last bytes.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def open_faiss(path: Path) -> faiss.Index:
    """Map an index into memory and set it to search thoroughly.

    Raises:
        OSError, RuntimeError: it cannot be read.
    """
    import faiss

    # a damaged header cannot ask for more memory than the file could fill
    size = path.stat().st_size
    with _limits:
        faiss.set_deserialization_vector_byte_limit(size)
        faiss.set_deserialization_loop_limit(size)
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    ivf, core = _parts(index)
    if ivf is not None:
        ivf.nprobe = min(ivf.nlist, max(16, int(ivf.nlist * IVF_PROBED)))
    if hasattr(core, "hnsw"):
        core.hnsw.efSearch = HNSW_EF_SEARCH
    return index


def nearest(
    index: faiss.Index, vectors: np.ndarray, question: np.ndarray, k: int, live: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of greatest inner product with the question, (d,) float32: rows (k,) int64, scores (k,) float64.

    Fewer than k where the shard is smaller or an approximate index finds fewer. Best first, ties by row. Only rows that
    `live`, (n,) bool, names take part; None: all.
    """
    import faiss

    exact = isinstance(index, faiss.IndexFlat)
    fetch = k + SPARE if exact else RERANKED * k
    while True:
        fetch = min(fetch, index.ntotal)
        approximate, found = index.search(question[None], fetch)
        rows = found[0][found[0] >= 0]
        exhausted = fetch == index.ntotal or len(rows) < fetch
        if live is not None:
            rows = rows[live[rows]]
        candidates = vectors[rows].astype(np.float64)
        scores = (candidates * question).sum(axis=1)
        best = np.lexsort((rows, -scores))[:k]
        if exhausted:
            break
        if len(best) == k:
            if not exact:
                break
            # What FAISS left out scores below its worst candidate, up to rounding: can it still be among the best k?
            error = ROUNDING * float(np.linalg.norm(question) * np.linalg.norm(candidates, axis=1).max())
            if scores[best[-1]] > approximate[0, -1] + error:
                break
        fetch *= 4
    return rows[best], scores[best]


def _parts(index: faiss.Index) -> tuple[Any | None, Any]:
    """The IVF index inside `index`, if any, and the index inside its wrappers, each as its own class."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    core = faiss.downcast_index(index)
    while isinstance(core, faiss.IndexPreTransform | faiss.IndexIDMap | faiss.IndexRefine):
        core = faiss.downcast_index(core.base_index if isinstance(core, faiss.IndexRefine) else core.index)
    return (faiss.downcast_index(ivf) if ivf is not None else None), core
