"""FAISS: one inner-product index per shard, built from the shard's vectors, which remain authoritative.

FAISS proposes candidates, whose scores are recomputed from the vectors in float64. So a passage has the same score in
any sharding, and compressed indexes (PQ, SQ) rank by exact scores. With `flat`, results are exact for vectors stored in
float32 or float16, also on a GPU, including ties: passages of equal score are in passage order.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.config import IndexSettings, Search
from ragx.errors import ConfigError
from ragx.index.vectors import VectorFormat, as_float32
from ragx.util.files import durable_file

if TYPE_CHECKING:
    import faiss

BINARY = "RaBitQfs"
"""The factory string of `binary`: one bit per number and two factors per vector (RaBitQ, SIGMOD 2024)."""
IVF_PROBE_SHARE = 1 / 16
"""Default share of an IVF index's lists that a search visits; at least 16 lists."""
IVF_PQ_TABLE = 256
"""Maximum size of a table that FAISS may make when it reads IVF-PQ, in multiples of the centroids' size."""
BATCH_ROWS = 8192
"""Vectors added to an index at a time."""
TRAINING_POINTS = 256
"""Training vectors per centroid; more do not improve k-means (FAISS's own limit)."""
MIN_TRAINING_POINTS = 39
"""Training vectors per centroid below which FAISS warns."""
VALUES_PER_BYTE = 8
"""Vector elements per byte in `ivfpq`'s product quantizer."""

_limits_lock = threading.Lock()


def factory(kind: str, vectors: VectorFormat, number: int, dimension: int) -> str:
    """The FAISS factory string of a shard.

    Args:
        kind: `flat`, `binary`, `hnsw`, `ivfpq`, or a factory string, which is returned unchanged.
        vectors: number format of the stored vectors; `flat` and `hnsw` use a similar one.
        number: vectors in the shard.
        dimension: d.
    """
    storage = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}[vectors]
    match kind:
        case "flat" | "Flat":
            return storage
        case "binary":
            return BINARY
        case "hnsw":
            return "HNSW32" if storage == "Flat" else f"HNSW32_{storage}"
        case "ivfpq":
            lists = min(4 * math.sqrt(number), number / MIN_TRAINING_POINTS)
            pieces = max(n for n in range(1, max(1, dimension // VALUES_PER_BYTE) + 1) if dimension % n == 0)
            return f"IVF{1 << max(0, int(math.log2(max(1, lists))))},PQ{pieces}"
    return kind


def new_index(factory: str, dimension: int) -> faiss.Index:
    """An empty inner-product index.

    Raises:
        ConfigError: the factory string is unknown to FAISS, or not for inner products of this dimension.
    """
    import faiss

    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].replace("\n", " ")
        raise ConfigError(
            f"faiss: {factory!r} is not an inner-product index of {dimension} dimensions ({reason}); "
            "use flat, binary, hnsw, ivfpq or IVF256,PQ32"
        ) from None


def check_trainable(settings: IndexSettings, dimension: int, largest: int) -> None:
    """Check that the largest shard has enough vectors to train the index.

    Raises:
        ConfigError: it has too few, or the factory string is invalid.
    """
    needed = training_minimum(new_index(factory(settings.faiss, settings.vectors, largest, dimension), dimension))
    if largest < needed:
        raise ConfigError(
            f"faiss: {settings.faiss!r} needs at least {needed:,} passages in a shard, got {largest:,}: use Flat"
        )


def training_minimum(index: faiss.Index) -> int:
    """The number of vectors below which FAISS refuses to train the index: one per centroid."""
    import faiss

    ivf, core = _parts(index)
    centroids = [ivf.nlist] if ivf is not None else []
    storage = faiss.downcast_index(core.storage) if hasattr(core, "storage") else None
    centroids += [part.pq.ksub for part in (ivf, core, storage) if part is not None and hasattr(part, "pq")]
    return max(centroids, default=0)


def build_faiss(vectors: np.ndarray, settings: IndexSettings) -> faiss.Index:
    """Train an index on a sample of a shard's stored vectors, then add all.

    A last shard too small for training becomes `flat`.

    Raises:
        ConfigError: FAISS cannot train the index on these vectors.
    """
    number, dimension = len(vectors), as_float32(vectors[:1]).shape[1]
    index = new_index(factory(settings.faiss, settings.vectors, number, dimension), dimension)
    if number < training_minimum(index):
        index = new_index(factory("flat", settings.vectors, number, dimension), dimension)
    try:
        if not index.is_trained:
            size = TRAINING_POINTS * max(training_minimum(index), 256)
            rows = np.arange(number)
            if size < number:
                rows = np.sort(np.random.default_rng(0).choice(number, size, replace=False))
            index.train(as_float32(vectors[rows]))
        for start in range(0, number, BATCH_ROWS):
            index.add(as_float32(vectors[start : start + BATCH_ROWS]))
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].replace("\n", " ")
        raise ConfigError(
            f"faiss: cannot build {settings.faiss!r} from {len(vectors):,} vectors ({reason}); use Flat"
        ) from None
    return index


def write_faiss(index: faiss.Index, path: Path) -> None:
    """Write the index durably.

    Raises:
        IndexFolderError: it cannot be written.
    """
    import faiss

    with durable_file(path) as file:
        # not faiss.write_index(index, path), which only prints a failure to flush the last bytes
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def open_faiss(path: Path, search: Search) -> faiss.Index:
    """Memory-map an index and set how thoroughly it searches.

    Inverted lists are mapped too; block lists (`PQ…x4fs`, `RaBitQfs`) are read into memory.

    Raises:
        OSError, RuntimeError: it cannot be read.
    """
    import faiss

    # a damaged header must not allocate more memory than the file could fill
    size = path.stat().st_size
    has_lists = _has_inverted_lists(path)
    with _limits(vector_bytes=max(size, min(IVF_PQ_TABLE * size, 2 << 30)) if has_lists else size, loops=size):
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if has_lists else faiss.IO_FLAG_MMAP_IFC)
    if type(index).__name__ == "IndexRaBitQFastScan":  # older FAISS for GPUs has none
        _check_binary(index)
    set_search(index, search)
    return index


def _check_binary(index: Any) -> None:
    """FAISS does not check these numbers, and would read beyond its memory.

    Raises:
        RuntimeError: the index is not one that `factory` would make.
    """
    fresh: Any = new_index(BINARY, index.d)
    blocks = -(-index.ntotal // fresh.bbs) * fresh.bbs
    scan = attrgetter("M2", "bbs", "code_size", "metric_type", "qb", "centered")
    code = attrgetter("d", "code_size", "metric_type", "nb_bits")
    if not (
        scan(index) == scan(fresh)
        and code(index.rabitq) == code(fresh.rabitq)
        and (index.ntotal2, index.codes.size(), index.center.size()) == (blocks, blocks * fresh.code_size, index.d)
    ):
        raise RuntimeError("not a binary index of its dimension")


@contextmanager
def _limits(vector_bytes: int, loops: int) -> Iterator[None]:
    """Limit FAISS's allocations while it reads, then restore the limits, which apply to the whole process."""
    import faiss

    with _limits_lock:
        before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
        faiss.set_deserialization_vector_byte_limit(vector_bytes)
        faiss.set_deserialization_loop_limit(loops)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before[0])
            faiss.set_deserialization_loop_limit(before[1])


def _has_inverted_lists(path: Path) -> bool:
    """Whether an index may have inverted lists, which FAISS maps in another way."""
    with path.open("rb") as file:
        return file.read(4)[:3] not in (b"IxF", b"IxS", b"IHN", b"IxP")


def set_search(index: faiss.Index, search: Search) -> None:
    """Set how thoroughly an index searches."""
    ivf, core = _parts(index)
    if ivf is not None:
        ivf.nprobe = min(ivf.nlist, search.nprobe or max(16, int(ivf.nlist * IVF_PROBE_SHARE)))
    if hasattr(core, "hnsw"):
        core.hnsw.efSearch = search.ef_search


def is_exact(index: faiss.Index, vectors: np.ndarray) -> bool:
    """Whether the index holds exactly the stored numbers and compares a question with all vectors."""
    import faiss

    if isinstance(index, faiss.IndexScalarQuantizer):
        return bool(vectors.dtype == np.float16 and index.sq.qtype == faiss.ScalarQuantizer.QT_fp16)
    return isinstance(index, faiss.IndexFlat) and vectors.dtype == np.float32


def _parts(index: faiss.Index) -> tuple[Any | None, Any]:
    """The IVF index inside `index`, if any, and the index inside its wrappers, both downcast."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    core = faiss.downcast_index(index)
    while isinstance(core, faiss.IndexPreTransform | faiss.IndexIDMap | faiss.IndexRefine):
        core = faiss.downcast_index(core.base_index if isinstance(core, faiss.IndexRefine) else core.index)
    return (faiss.downcast_index(ivf) if ivf is not None else None), core
