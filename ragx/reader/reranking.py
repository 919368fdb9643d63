"""Rerankers by name, with those that a reader computes: `late` and `attention`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ragx.config import LATE, EncodingOptions, SamplingParams, reader_reranker
from ragx.errors import ModelError
from ragx.reader.base import Reader
from ragx.reader.cepe import CepeReader
from ragx.retrieval import rerankers
from ragx.retrieval.rerankers import Reranker
from ragx.retrieval.rerankers.base import DEPTH
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.retrieval.rerankers.late import LateReranker
from ragx.types import Passage

_loading = threading.Lock()


def open_reranker(
    name: str, device: str | None = None, embedder: str | None = None, reader: Callable[[], Reader | None] | None = None
) -> Reranker | None:
    """The reranker of this name, or None for `none`.

    Args:
        name: as for `ragx.retrieval.rerankers.open_reranker`; or `late` or `attention`, which a CEPE reader computes,
            and `late:READER` for one that is not `reader`.
        device: a torch device; None: a GPU if there is one.
        embedder: the index's, for `auto`.
        reader: gives the reader in use; without one, or if it is no trained CEPE reader, the default takes its place.

    Raises:
        ModelError: a model is missing or unusable, or a reader has no projection.
        ConfigError: there is no such device, or the URL cannot be used.
    """
    if (found := reader_reranker(name)) is None:
        return rerankers.open_reranker(name, device, embedder)
    kind, model = found
    given = reader() if reader is not None and model is None else None
    if isinstance(given, CepeReader) and given.model.is_trained:
        cepe = given
    else:
        with _loading:
            cepe = _open_reader(model or EncodingOptions().model, device)
    return LateReranker(name, cepe.projection, cepe) if kind == LATE else AttentionReranker(name, cepe)


class AttentionReranker:
    """Orders hits by their shares of a reader's attention after it has read the question."""

    depth = DEPTH
    order = 0.0
    calibration: Calibration | None = None

    def __init__(self, name: str, reader: CepeReader) -> None:
        """`reader` must be trained."""
        self.name = name
        self._reader = reader

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray:
        """The share of each passage: (n,) float32."""
        sampling = SamplingParams(max_new_tokens=1)
        prepared = self._reader.prepare(question, passages, prompt_passages=0, sampling=sampling)
        if prepared.context is None:
            raise ModelError("the reader attends to no passage")
        prepared.context.record_attention = True
        self._reader.decode(prepared, sampling)
        return np.asarray(prepared.context.attention_shares()[0], np.float32)


@lru_cache(maxsize=1)
def _open_reader(model: str, device: str | None) -> CepeReader:
    from ragx.reader.loading import open_trained_reader

    return open_trained_reader(EncodingOptions(model=model, device=device))
