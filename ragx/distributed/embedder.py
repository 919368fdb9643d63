"""RayEmbedder: the workers of a Ray cluster embed passages."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import ray

from ragx.distributed.cluster import node, raise_worker_errors
from ragx.errors import ModelError
from ragx.retrieval.embedder import PASSAGES_PER_CALL
from ragx.types import Embedder, Passage

PIECE_SIZE = PASSAGES_PER_CALL
"""Passages per task."""


class ModelSource(NamedTuple):
    """How a worker loads its model, once for all equal sources."""

    load: Callable[..., Any]
    """Returns an `Embedder`, or a `CepeModel` for `encode_batches`; importable by name on every node."""
    arguments: tuple[Hashable, ...] = ()
    device: str = "cpu"
    """`cuda`: each worker uses a GPU."""

    @property
    def gpus(self) -> int:
        """GPUs per task."""
        return 1 if self.device == "cuda" else 0


class RayEmbedder:
    """An `Embedder` whose passages are embedded by workers, in the same batches as locally."""

    def __init__(self, embedder: Embedder, source: ModelSource) -> None:
        """`embedder` identifies the model and embeds questions; workers load theirs from `source`."""
        self.name, self.fingerprint, self.dimension = embedder.name, embedder.fingerprint, embedder.dimension
        self._embedder, self._source = embedder, source

    def encode_question(self, question: str) -> np.ndarray:
        """A vector (d,) float32."""
        return self._embedder.encode_question(question)

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        """Vectors (n, d) float32; `on_progress` gets the number of passages just done.

        Raises:
            ModelError: a worker's embedder differs from this one.
            RagxError: Ray gave up, for example after four workers died of the same task.
        """
        embed: Any = _embed.options(num_gpus=self._source.gpus)
        pieces = [list(passages[start : start + PIECE_SIZE]) for start in range(0, len(passages), PIECE_SIZE)]
        calls = [embed.remote(self._source, self.fingerprint, self.name, piece) for piece in pieces]
        sizes = dict(zip(calls, map(len, pieces), strict=True))
        pending = calls
        with raise_worker_errors():
            while pending:
                (done,), pending = ray.wait(pending, num_returns=1)
                ray.get(done)  # raise errors at once
                on_progress(sizes[done])
            return np.concatenate([np.empty((0, self.dimension), np.float32), *ray.get(calls)])


def checked_embedder(source: ModelSource, fingerprint: str, name: str) -> Embedder:
    """The embedder of a worker.

    Raises:
        ModelError: its fingerprint differs.
    """
    embedder: Embedder = _load(source)
    if embedder.fingerprint != fingerprint:
        raise ModelError(
            f"embedder {name} on node {node()} differs from this machine's: install the same model on all nodes"
        )
    return embedder


@lru_cache(maxsize=1)
def _load(source: ModelSource) -> Any:
    return source.load(*source.arguments)


@ray.remote
def _embed(source: ModelSource, fingerprint: str, name: str, passages: list[Passage]) -> np.ndarray:
    return checked_embedder(source, fingerprint, name).encode_passages(passages, lambda _: None)
