"""Number formats of stored rows: bfloat16, or int8 with one scale per row. A row is one token's vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from ragx_kernels.cross_attention import quantize
from torch import Tensor

Format = Literal["bfloat16", "int8"]
SCALE_BYTES = 4


class Rows(NamedTuple):
    """L rows of width E in the stored format, in CPU memory."""

    values: Tensor
    """(L, E) bfloat16 or int8."""
    scale: Tensor | None
    """(L,) float32, the factor of each int8 row; None for bfloat16."""

    @property
    def bits(self) -> torch.dtype:
        """The type in which NumPy views the values, because it has no bfloat16."""
        return torch.int16 if self.scale is None else torch.int8

    def tobytes(self) -> bytes:
        """The stored form: the scales, then the values."""
        tensors = [*([] if self.scale is None else [self.scale]), self.values.view(self.bits)]
        return b"".join(tensor.contiguous().numpy().data for tensor in tensors if tensor.numel())

    def split(self, lengths: Sequence[int]) -> list[Rows]:
        """The rows of each passage, if these are the rows of several."""
        scales = [None] * len(lengths) if self.scale is None else self.scale.split(list(lengths))
        return [Rows(*pair) for pair in zip(self.values.split(list(lengths)), scales, strict=True)]


def pack(vectors: Tensor, number_format: Format) -> Rows:
    """Vectors (L, E) as rows."""
    if number_format == "bfloat16":
        return Rows(vectors.to("cpu", torch.bfloat16), None)
    values, scale = quantize(vectors)
    return Rows(values.cpu(), scale.cpu())


def row_bytes(width: int, number_format: Format) -> int:
    """Bytes of one stored row."""
    return 2 * width if number_format == "bfloat16" else SCALE_BYTES + width


def unpack(buffer: bytearray, length: int, width: int, number_format: Format) -> Rows:
    """Rows (`length`, `width`) over `buffer`, which is not copied."""
    if number_format == "bfloat16":
        bits = np.ndarray((length, width), np.int16, buffer)
        return Rows(torch.from_numpy(bits).view(torch.bfloat16), None)
    scale = np.ndarray(length, np.float32, buffer)
    values = np.ndarray((length, width), np.int8, buffer, offset=SCALE_BYTES * length)
    return Rows(torch.from_numpy(values), torch.from_numpy(scale))


def concatenate(rows: Sequence[Rows], width: int, number_format: Format) -> Rows:
    """The rows of all passages, (M, E), in one copy."""
    start = pack(torch.empty(0, width), number_format)  # sets the type if there are no passages
    # NumPy copies on one thread; torch's threads are no faster here and wait for one another on a busy machine
    values = np.concatenate([piece.values.view(start.bits).numpy() for piece in (start, *rows)])
    scales = [piece.scale.numpy() for piece in (start, *rows) if piece.scale is not None]
    scale = torch.from_numpy(np.concatenate(scales)) if scales else None
    return Rows(torch.from_numpy(values).view(start.values.dtype), scale)
