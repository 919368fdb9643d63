"""Stored vectors: float32, float16, or int8 with one scale per vector.

Storing a vector that was read from disk gives the same bits, so vectors can move between shards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

VectorFormat = Literal["float32", "float16", "int8"]

_LARGEST = 127
_DROPPED_BITS = 13
"""Bits dropped from a scale's mantissa, so that `_LARGEST` times the scale has no rounding error."""
_SMALLEST = _LARGEST * np.finfo(np.float32).tiny
"""Vectors below this are stored as 0, because subnormal scales would have a rounding error."""


def to_format(vectors: np.ndarray, format: VectorFormat) -> np.ndarray:
    """Convert vectors, (n, d) float32, to the format of `vectors.npy`.

    Returns:
        (n, d) float32 or float16; for int8, (n,) of the fields `scale`, float32, and `values`, (d,) int8, whose product
        differs from the vector by at most 0.4% of its largest number, or is 0 if that is below 1.5e-36.
    """
    if format != "int8":
        with np.errstate(over="ignore"):  # the caller checks for infinite numbers
            return vectors.astype("<f2" if format == "float16" else "<f4", copy=False)
    rows = np.empty(len(vectors), np.dtype([("scale", "<f4"), ("values", "i1", (vectors.shape[1],))]))
    largest = np.abs(vectors).max(axis=1, initial=0)
    largest = np.where(largest < _SMALLEST, np.float32(0), largest)
    bits = np.ascontiguousarray(largest / np.float32(_LARGEST), np.float32).view(np.uint32)
    rounded_up = (bits + np.uint32((1 << _DROPPED_BITS) - 1)) >> _DROPPED_BITS << _DROPPED_BITS
    rows["scale"] = rounded_up.view(np.float32)
    divisor = np.where(rows["scale"] > 0, rows["scale"], np.float32(1))
    rows["values"] = np.rint(vectors / divisor[:, None])
    return rows


def as_float32(rows: np.ndarray) -> np.ndarray:
    """One or several stored vectors as float32: (d,) or (n, d)."""
    if rows.dtype.names is None:
        return np.asarray(rows, np.float32)
    return np.asarray(rows["values"], np.float32) * np.asarray(rows["scale"], np.float32)[..., None]


def dimension(rows: np.ndarray) -> int | None:
    """The dimension of stored vectors, or None if the array does not hold vectors."""
    if rows.ndim == 1 and rows.dtype.names == ("scale", "values"):
        shape = rows.dtype["values"].shape
        return int(shape[0]) if len(shape) == 1 else None
    return int(rows.shape[1]) if rows.ndim == 2 and rows.dtype.kind == "f" else None


def open_vectors(path: Path) -> np.ndarray:
    """Memory-map an array: a shard's stored vectors, or the deleted rows.

    Raises:
        OSError, ValueError: the file is missing or damaged.
    """
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
