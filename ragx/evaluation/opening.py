"""The reader that is measured, and what tells its weights from others."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ragx.config import EncodingOptions, checked
from ragx.models import resolve
from ragx.rag import open_reader
from ragx.util.terminal import notice, waiting

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel
    from ragx.reader.cepe import CepeReader


def open_measured(model: str, *, device: str | None, dtype: str) -> CepeReader:
    """The reader named, with a notice where it is untrained.

    Raises:
        ModelError, ConfigError: as `ragx.rag.open_reader`.
    """
    resolve(model)  # a download shows its own progress
    with waiting("loading models …"):
        reader = open_reader(checked(EncodingOptions, {"model": model, "device": device, "dtype": dtype}))
    if not reader.model.is_trained:
        notice(f"the reader around {model} is untrained: what stands in its encoder changes nothing")
    return reader


def fingerprint(model: CepeModel) -> str:
    """The first 16 digits (hex) of a SHA-256 over every weight and its number format."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
