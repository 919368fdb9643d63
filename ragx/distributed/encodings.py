"""encode_batches: a reader's encoder run over passages by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import ray

from ragx.cepe.model import CepeModel
from ragx.cepe.store import Format, Rows, encode_rows
from ragx.cepe.store.passages import Passages
from ragx.distributed.cluster import errors_in_one_line, node, workers
from ragx.distributed.embedder import Source
from ragx.errors import ModelError

AHEAD = 2
"""Batches a worker that are sent before their rows are wanted: they bound what is held in memory."""


def encode_batches(
    source: Source, fingerprint: str, format: Format, batches: Iterable[Passages]
) -> Iterator[tuple[Passages, Rows]]:
    """The rows of each batch of passages as `PassageStore.fill` wants them, in the order in which they are done.

    Args:
        source: how the workers get their reader.
        fingerprint: `encoder_fingerprint` of the reader that they must have.
        format: number format of the rows.
        batches: token ids; read as workers become free.

    Raises:
        ModelError: a worker's reader is another one, or cannot be loaded.
        RagxError: Ray gave up, as after the fourth worker that died of the same batch.
    """
    encode: Any = _encode.options(num_gpus=source.gpus)
    most = AHEAD * workers(source.device)
    sent: dict[ray.ObjectRef[Rows], Passages] = {}

    def first_done() -> tuple[Passages, Rows]:
        (done,), _ = ray.wait([*sent], num_returns=1)
        return sent.pop(done), ray.get(done)

    for batch in batches:
        with errors_in_one_line():
            sent[encode.remote(source, fingerprint, format, batch)] = batch
            done = first_done() if len(sent) >= most else None
        if done is not None:
            yield done
    while sent:
        with errors_in_one_line():
            done = first_done()
        yield done


@ray.remote
def _encode(source: Source, fingerprint: str, format: Format, passages: Passages) -> Rows:
    return encode_rows(_checked_reader(source, fingerprint), passages, format)


@lru_cache(maxsize=1)
def _checked_reader(source: Source, fingerprint: str) -> CepeModel:
    model: CepeModel = source.load(*source.arguments)
    if model.encoder_fingerprint() != fingerprint:
        raise ModelError(
            f"the reader on node {node()} differs from this machine's: install the same model on all nodes"
        )
    return model
