"""Number formats of stored rows: bfloat16, or int8 with one scale per row. A row is one token's vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragx.types import EncodingFormat

SCALE_BYTES = 4


class Rows(NamedTuple):
    """L rows of width E in the stored format, in CPU memory."""

    values: NDArray[np.uint16] | NDArray[np.int8]
    """(L, E): the bits of bfloat16 numbers, or int8."""
    scale: NDArray[np.float32] | None
    """(L,), the factor of each int8 row; None for bfloat16."""

    @classmethod
    def from_float32(cls, vectors: NDArray[np.float32], format: EncodingFormat) -> Rows:
        """Vectors (L, E), rounded half to even, as torch and `ragx_kernels`'s `quantize` do."""
        if format == "bfloat16":
            bits = vectors.view(np.uint32)
            rounded = (bits + ((bits >> 16) & 1) + 0x7FFF) >> 16
            return cls(np.where(np.isnan(vectors), 0x7FC0, rounded).astype(np.uint16), None)
        scale = np.abs(vectors).max(axis=1) / np.float32(127)
        safe = np.maximum(scale, np.finfo(np.float32).tiny)  # a row of zeros stays zeros
        with np.errstate(invalid="ignore"):  # a row that is not finite has such a scale, whatever its values
            return cls(np.rint(vectors / safe[:, None]).astype(np.int8), scale)

    def to_float32(self) -> NDArray[np.float32]:
        """The vectors (L, E)."""
        if self.scale is None:
            return (self.values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.values * self.scale[:, None]

    @classmethod
    def from_bytes(cls, buffer: bytes, length: int, width: int, format: EncodingFormat) -> Rows:
        """Read-only rows (`length`, `width`) over `buffer`, the result of `tobytes`."""
        if format == "bfloat16":
            return cls(np.ndarray((length, width), np.uint16, buffer), None)
        values = np.ndarray((length, width), np.int8, buffer, offset=SCALE_BYTES * length)
        return cls(values, np.ndarray(length, np.float32, buffer))

    def tobytes(self) -> bytes:
        """The stored form: the scales, then the values."""
        return (b"" if self.scale is None else self.scale.tobytes()) + self.values.tobytes()

    @property
    def format(self) -> EncodingFormat:
        """Number format."""
        return "bfloat16" if self.scale is None else "int8"

    def split(self, lengths: Sequence[int]) -> list[Rows]:
        """The rows of each passage, if these are the rows of several.

        Raises:
            ValueError: these are not as many rows.
        """
        if sum(lengths) != len(self.values):
            raise ValueError(f"expected {sum(lengths)} rows, got {len(self.values)}")
        pieces = [slice(*ends) for ends in pairwise(accumulate(lengths, initial=0))]
        return [Rows(self.values[piece], None if self.scale is None else self.scale[piece]) for piece in pieces]


def concatenate(rows: Sequence[Rows], width: int, format: EncodingFormat) -> Rows:
    """The rows of all passages, (M, E), in one copy."""
    rows = [Rows.from_float32(np.empty((0, width), np.float32), format), *rows]  # at least one, of this type
    scales = [piece.scale for piece in rows if piece.scale is not None]
    return Rows(np.concatenate([piece.values for piece in rows]), np.concatenate(scales) if scales else None)


def row_bytes(width: int, format: EncodingFormat) -> int:
    """Bytes of one stored row."""
    return 2 * width if format == "bfloat16" else SCALE_BYTES + width
