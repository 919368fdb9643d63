"""RayEmbedder: passages embedded by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import ray

from ragx.distributed.cluster import errors_in_one_line, node
from ragx.errors import ModelError
from ragx.retrieval.embedder import PASSAGES_PER_CALL
from ragx.types import Embedder, Passage

PIECE = PASSAGES_PER_CALL
"""Passages in a task."""


class Source(NamedTuple):
    """How a worker gets its model. A worker calls it once for all sources that are equal."""

    load: Callable[..., Any]
    """Gives an `Embedder`, or a `CepeModel` for `encode_batches`; importable by name on every node."""
    arguments: tuple[Hashable, ...] = ()
    device: str = "cpu"
    """`cuda`: a worker takes a GPU."""

    @property
    def gpus(self) -> int:
        """That a task takes."""
        return 1 if self.device == "cuda" else 0


class RayEmbedder:
    """An `Embedder` whose passages the workers embed, in the batches and so to the vectors of a local one."""

    def __init__(self, embedder: Embedder, source: Source) -> None:
        """`embedder` says which one it is, and embeds questions; the workers get theirs from `source`."""
        self.name, self.fingerprint, self.dimension = embedder.name, embedder.fingerprint, embedder.dimension
        self._embedder, self._source = embedder, source

    def encode_question(self, question: str) -> np.ndarray:
        """A vector (d,) float32."""
        return self._embedder.encode_question(question)

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        """Vectors (n, d) float32; `on_progress` is told how many more passages are done.

        Raises:
            ModelError: a worker's embedder is another one.
            RagxError: Ray gave up, as after the fourth worker that died of the same task.
        """
        embed: Any = _embed.options(num_gpus=self._source.gpus)
        pieces = [list(passages[start : start + PIECE]) for start in range(0, len(passages), PIECE)]
        calls = [embed.remote(self._source, self.fingerprint, self.name, piece) for piece in pieces]
        sizes = dict(zip(calls, map(len, pieces), strict=True))
        waiting = calls
        with errors_in_one_line():
            while waiting:
                (done,), waiting = ray.wait(waiting, num_returns=1)
                ray.get(done)  # raises at once what went wrong
                on_progress(sizes[done])
            return np.concatenate([np.empty((0, self.dimension), np.float32), *ray.get(calls)])


def checked_embedder(source: Source, fingerprint: str, name: str) -> Embedder:
    """In a worker, its embedder.

    Raises:
        ModelError: it is not the one of that fingerprint.
    """
    embedder: Embedder = _loaded(source)
    if embedder.fingerprint != fingerprint:
        raise ModelError(
            f"embedder {name} on node {node()} differs from this machine's: install the same model on all nodes"
        )
    return embedder


@lru_cache(maxsize=1)
def _loaded(source: Source) -> Any:
    return source.load(*source.arguments)


@ray.remote
def _embed(source: Source, fingerprint: str, name: str, passages: list[Passage]) -> np.ndarray:
    return checked_embedder(source, fingerprint, name).encode_passages(passages, lambda _: None)
