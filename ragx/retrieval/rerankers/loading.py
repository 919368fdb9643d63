"""open_reranker: a reranker by its name. Imports happen inside, so that `none` costs nothing."""

from __future__ import annotations

import threading
from functools import lru_cache

from ragx.config import embedder_model
from ragx.errors import ModelError
from ragx.retrieval.rerankers.base import Reranker
from ragx.util.device import usable_device
from ragx.util.terminal import notice

BUNDLED = {"all-minilm-l6-v2": "rerank-minilm-l6"}
"""By embedder, the reranker that was trained from it and reads the same language."""

_loading = threading.Lock()


def open_reranker(name: str, device: str | None = None, embedder: str | None = None) -> Reranker | None:
    """The reranker of this name, or None for `none`; the two most recently used models stay loaded.

    Args:
        name: `auto`, `none`, the URL of a rerank API, or a cross-encoder: a registered name, a folder or a Hub id.
        device: a torch device; None: a GPU if there is one. BERT-like models are compiled for the CPU.
        embedder: the index's; `auto` is the reranker that goes with it, if there is one and it can be loaded.

    Raises:
        ModelError: the model is missing, unusable or not a reranker.
        ConfigError: there is no such device, or the URL cannot be used.
    """
    if name == "auto":
        try:
            return open_reranker(BUNDLED.get(embedder_model(embedder or "")[0], "none"), device)
        except ModelError as error:
            notice(f"hits are not reranked: {error}")
            return None
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
    from ragx.retrieval.rerankers.calibration import read_calibration
    from ragx.retrieval.rerankers.compiling import open_compiled
    from ragx.retrieval.rerankers.cross_encoder import CrossEncoderReranker, load_cross_encoder
    from ragx.retrieval.rerankers.stored import standard_folder

    folder = models.resolve(name, "reranker")
    calibration = read_calibration(models.read_config(folder), name)
    compiled = open_compiled(folder, name, calibration) if device == "cpu" else None
    if compiled is not None:
        return compiled
    with standard_folder(folder, name) as standard:
        return CrossEncoderReranker(load_cross_encoder(standard, name, device), name, calibration)
