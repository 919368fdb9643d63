"""Between stored rows and torch: hidden states as rows, and rows as a context."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from ragx_kernels.cross_attention import quantize
from torch import Tensor

from ragx.cepe.context import Context
from ragx.cepe.store import Rows
from ragx.types import EncodingFormat


def stored_context(rows: Rows, lengths: Sequence[int], like: Tensor) -> Context:
    """Φ (1, M, E) of one question's passages of these lengths, on the device of `like`."""
    offsets = [[0, *accumulate(lengths)]]
    values = torch.from_numpy(rows.values)  # (M, E)
    if rows.scale is None:
        return Context(values.view(torch.bfloat16).to(like.device, like.dtype)[None], offsets=offsets)
    scale = torch.from_numpy(rows.scale).to(like.device)  # (M,)
    return Context(values.to(like.device)[None], offsets=offsets, phi_scale=scale[None])


def pack_rows(vectors: Tensor, format: EncodingFormat) -> Rows:
    """Vectors (L, E) of any floating-point type, on any device, as rows."""
    if format == "bfloat16":
        return Rows(vectors.to("cpu", torch.bfloat16).view(torch.uint16).numpy(), None)
    values, scale = quantize(vectors)
    return Rows(values.cpu().numpy(), scale.cpu().numpy())
