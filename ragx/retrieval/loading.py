"""open_embedder: an embedder by its name, computed by ONNX Runtime where it can be, otherwise by torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ragx import models
from ragx.config import embedder_model
from ragx.errors import ModelError
from ragx.retrieval.compiling import open_compiled
from ragx.retrieval.embedder import TextEmbedder
from ragx.retrieval.sentence_transformer import SentenceTransformerEmbedder, load_sentence_transformer
from ragx.retrieval.truncated import TruncatedEmbedder
from ragx.util.device import parse_dtype, usable_device

if TYPE_CHECKING:
    import torch


def open_embedder(name: str, device: str | None = None, dtype: str | torch.dtype | None = None) -> TextEmbedder:
    """The embedder of this name: a registered name, a folder or a Hub id, and perhaps a colon and fewer dimensions.

    Raises:
        ModelError: it is missing or unusable.
        ConfigError: there is no such device or number format.
    """
    device = usable_device(device)
    model, dimension = embedder_model(name)
    folder = models.resolve(model, "embedder")
    fingerprint = models.fingerprint(folder)
    embedder = load_embedder(folder, name=model, fingerprint=fingerprint, device=device, dtype=dtype)
    return embedder if dimension is None else TruncatedEmbedder(embedder, dimension)


def load_embedder(
    folder: Path,
    *,
    name: str,
    fingerprint: str,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
) -> TextEmbedder:
    """Load a model from a local folder.

    A BERT-like model is compiled for the CPU, in float32, which is faster there than bfloat16 by torch. Vectors of
    either kind are interchangeable.

    Raises:
        ModelError: the folder is missing, damaged or not an embedder.
        ConfigError: there is no such device or number format.
    """
    if not folder.is_dir():
        raise ModelError(f"no embedder at {folder}")
    device = usable_device(device)
    if device == "cpu" and str(dtype or "auto").removeprefix("torch.") in ("auto", "float32"):
        compiled = open_compiled(folder, name, fingerprint)
        if compiled is not None:
            return compiled
    model = load_sentence_transformer(folder, name, device, parse_dtype(dtype, device))
    return SentenceTransformerEmbedder(model, name, fingerprint)
