"""open_reranker: a reranker by its name. Imports happen inside, so that `none` costs nothing."""

from __future__ import annotations

import threading
from functools import lru_cache

from ragx.retrieval.rerankers.base import Reranker
from ragx.util.device import usable_device

_loading = threading.Lock()


def open_reranker(name: str, device: str | None = None) -> Reranker | None:
    """The reranker of this name, or None for `none`; the two most recently used models stay loaded.

    Args:
        name: `none`, the URL of a rerank API, or a cross-encoder: a registered name, a folder or a Hub id.
        device: a torch device; None: a GPU if there is one. BERT-like models are compiled for the CPU.

    Raises:
        ModelError: the model is missing, unusable or not a reranker.
        ConfigError: there is no such device, or the URL cannot be used.
    """
    if name == "none":
        return None
    if name.startswith(("http://", "https://")):
        from ragx.retrieval.rerankers.api import ApiReranker

        return ApiReranker(name)
    with _loading:  # otherwise threads that need a model at once would each load it
        return _load(name, usable_device(device))


@lru_cache(maxsize=2)
def _load(name: str, device: str) -> Reranker:
    from ragx import models
    from ragx.retrieval.rerankers.compiling import open_compiled
    from ragx.retrieval.rerankers.cross_encoder import CrossEncoderReranker, load_cross_encoder
    from ragx.retrieval.rerankers.stored import standard_folder

    folder = models.resolve(name, "reranker")
    compiled = open_compiled(folder, name) if device == "cpu" else None
    if compiled is not None:
        return compiled
    with standard_folder(folder, name) as standard:
        return CrossEncoderReranker(load_cross_encoder(standard, name, device), name)
