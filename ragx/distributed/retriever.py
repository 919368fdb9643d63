"""RayRetriever: Ray actors search the shards of an index; each actor has some of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import ray

from ragx.distributed.cluster import node, raise_worker_errors, workers
from ragx.errors import IndexFolderError, RagxError
from ragx.index import Index
from ragx.retrieval import Retriever
from ragx.retrieval.retriever import Ranking, SearchResults, best_of, part_of, search_shard
from ragx.types import Embedder

TIMEOUT = 30.0
"""Seconds to wait for an actor."""


class RayRetriever(Retriever):
    """A `Retriever` whose vectors are searched by actors of the connected cluster, with the same hits.

    This process searches the lexical index and reads the passages of hits. All nodes need access to the index folder.

    While an actor is lost, its shards are not searched; `SearchResults.unsearched` gives their share. Ray restarts an
    actor that died, and later searches use it again.
    """

    def __init__(
        self, index: Index, embedder: Embedder | None = None, *, actors: int | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Start the actors and wait until they have opened the index.

        Args:
            index: the generation to search, even after others are published.
            embedder: as for `Retriever`.
            actors: number of actors; None: one per core of the cluster. Never more than shards.
            timeout: seconds after which an actor that has not answered counts as lost.

        Raises:
            IndexFolderError: a node has no access to the index folder, or has a different folder there.
        """
        super().__init__(index, embedder)
        self.timeout = timeout
        number = min(len(index.shards), actors or workers("cpu"))
        self._actor_shards = [range(first, len(index.shards), number) for first in range(number)]
        folder = str(index.folder.absolute())
        self._actors = [_ACTOR.remote(folder, index.generation, list(shards)) for shards in self._actor_shards]
        try:
            with raise_worker_errors():
                manifests = ray.get([actor.manifest.remote() for actor in self._actors])
            if any(manifest != index.manifest.model_dump_json() for manifest in manifests):
                raise IndexFolderError(f"{index.folder} differs between nodes: use a shared disk")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def __enter__(self) -> RayRetriever:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def nearest(
        self, vector: np.ndarray, k: int, rerank: int | None = None, selected: np.ndarray | None = None
    ) -> SearchResults[tuple[int, float]]:
        """As `Retriever.nearest`, for the shards whose actors answer."""
        calls = []
        for actor, shards in zip(self._actors, self._actor_shards, strict=True):
            parts = [part_of(self.index.shards[number], selected) for number in shards]
            calls.append(actor.nearest.remote(vector, k, self.rerank(rerank), parts))
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=self.timeout)
        ranking: Ranking = []
        lost = 0
        for call, shards in zip(calls, self._actor_shards, strict=True):
            try:
                ranking += ray.get(call, timeout=0)
            except ray.exceptions.RayError as error:
                if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error, RagxError):
                    raise  # a bug rather than a lost actor
                lost += sum(len(self.index.shards[number]) for number in shards)
        ranking.sort(key=lambda hit: (-hit[1], hit[0]))
        return SearchResults(ranking[:k], lost / len(self.index) if lost else 0.0)


class _ShardActor:
    """Searches some shards of one generation."""

    def __init__(self, folder: str, generation: str, numbers: list[int]) -> None:
        self.folder, self.generation, self.numbers = Path(folder), generation, numbers

    @cached_property
    def index(self) -> Index:
        """The index, opened on first use; opening is retried if the disk was not available."""
        try:
            return Index.open(self.folder, self.generation)
        except IndexFolderError as error:
            raise IndexFolderError(f"on node {node()}: {error}") from None

    def manifest(self) -> str:
        return self.index.manifest.model_dump_json()

    def nearest(self, vector: np.ndarray, k: int, rerank: int, selected: list[np.ndarray | None]) -> Ranking:
        shards = [self.index.shards[number] for number in self.numbers]
        parts = zip(shards, selected, strict=True)
        return best_of([search_shard(shard, vector, k, rerank, selected=part) for shard, part in parts], k)


_ACTOR: Any = ray.remote(max_restarts=-1, scheduling_strategy="SPREAD")(_ShardActor)
