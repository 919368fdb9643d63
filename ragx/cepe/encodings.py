"""Between a model and stored rows: the model's encodings as rows, and rows as a context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from ragx_kernels.cross_attention import quantize
from torch import Tensor

from ragx.cepe.context import Context
from ragx.cepe.store import Passages, PassageStore, Rows
from ragx.types import EncodingFormat

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel


def stored_context(model: CepeModel, store: PassageStore, passages: Passages) -> Context:
    """Φ (1, M, E) of one question's passages, in the model's number format, or int8 from an int8 store.

    Passages that the store misses are encoded and stored. They are used in the stored format, so that answers do not
    depend on whether a passage was stored before.
    """
    rows = store.encode(passages, lambda missing: encode_rows(model, missing, store.format))
    weight = model.encoder.norm.weight
    offsets = [[0, *accumulate(len(passage) for passage in passages)]]
    values = torch.from_numpy(rows.values)  # (M, E)
    if rows.scale is None:
        phi = values.view(torch.bfloat16).to(weight.device, weight.dtype)
        return model.ready(Context(phi[None], offsets=offsets))
    scale = torch.from_numpy(rows.scale).to(weight.device)  # (M,)
    return model.ready(Context(values.to(weight.device)[None], offsets=offsets, phi_scale=scale[None]))


def encode_batches(
    model: CepeModel, format: EncodingFormat, batches: Iterable[Passages]
) -> Iterator[tuple[Passages, Rows]]:
    """Each batch of passages with its rows, for `PassageStore.fill`."""
    return ((batch, encode_rows(model, batch, format)) for batch in batches)


def encode_rows(model: CepeModel, passages: Passages, format: EncodingFormat) -> Rows:
    """Encode passages in one batch: their concatenated rows (M, E) in the stored format."""
    with torch.no_grad():
        return pack(model.encode_passages([list(passage) for passage in passages]).phi[0], format)


def pack(vectors: Tensor, format: EncodingFormat) -> Rows:
    """Vectors (L, E) of any floating-point type, on any device, as rows."""
    if format == "bfloat16":
        return Rows(vectors.to("cpu", torch.bfloat16).view(torch.uint16).numpy(), None)
    values, scale = quantize(vectors)
    return Rows(values.cpu().numpy(), scale.cpu().numpy())
