"""encode_batches: the workers of a Ray cluster encode passages for a reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import ray

from ragx.cepe.model import CepeModel
from ragx.cepe.store import Passages, Rows
from ragx.distributed.cluster import node, raise_worker_errors, workers
from ragx.distributed.embedder import ModelSource
from ragx.errors import ModelError
from ragx.types import EncodingFormat

BATCHES_PER_WORKER = 2
"""Batches in flight per worker, which limits memory."""


def encode_batches(
    source: ModelSource, fingerprint: str, format: EncodingFormat, batches: Iterable[Passages]
) -> Iterator[tuple[Passages, Rows]]:
    """Each batch of passages with its rows, for `PassageStore.fill`, in the order of completion.

    Args:
        source: how the workers load their reader.
        fingerprint: `encoder_fingerprint` of the reader that they must have.
        format: number format of the rows.
        batches: token ids; read as workers become free.

    Raises:
        ModelError: a worker's reader differs, or cannot be loaded.
        RagxError: Ray gave up, for example after four workers died of the same batch.
    """
    encode: Any = _encode.options(num_gpus=source.gpus)
    limit = BATCHES_PER_WORKER * workers(source.device)
    pending: dict[ray.ObjectRef[Rows], Passages] = {}

    def next_result() -> tuple[Passages, Rows]:
        (done,), _ = ray.wait([*pending], num_returns=1)
        return pending.pop(done), ray.get(done)

    for batch in batches:
        with raise_worker_errors():
            pending[encode.remote(source, fingerprint, format, batch)] = batch
            result = next_result() if len(pending) >= limit else None
        if result is not None:
            yield result
    while pending:
        with raise_worker_errors():
            result = next_result()
        yield result


@ray.remote
def _encode(source: ModelSource, fingerprint: str, format: EncodingFormat, passages: Passages) -> Rows:
    return _checked_reader(source, fingerprint).encode_rows(passages, format)


@lru_cache(maxsize=1)
def _checked_reader(source: ModelSource, fingerprint: str) -> CepeModel:
    model: CepeModel = source.load(*source.arguments)
    if model.encoder_fingerprint() != fingerprint:
        raise ModelError(
            f"the reader on node {node()} differs from this machine's: install the same model on all nodes"
        )
    return model
