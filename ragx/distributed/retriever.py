"""RayRetriever: the shards of an index searched by Ray actors, each of which owns some of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import ray

from ragx.distributed.cluster import errors_in_one_line, node, workers
from ragx.errors import IndexFolderError, RagxError
from ragx.index import Index
from ragx.retrieval import Retriever
from ragx.retrieval.retriever import Ranking, SearchResults, best_of, search_shard
from ragx.types import Embedder

PATIENCE = 30.0
"""Seconds."""


class RayRetriever(Retriever):
    """A `Retriever` whose vectors are searched by actors of the cluster that the program is connected to.

    The hits are those of a `Retriever`. BM25, which is one index, and the passages found are read here. All nodes must
    see the index folder.

    What an actor owns is not searched while it is lost: `SearchResults.unsearched` then says how much that is. Ray
    restarts an actor that died, and the next search that finds it there uses it.
    """

    def __init__(
        self, index: Index, embedder: Embedder | None = None, *, actors: int | None = None, patience: float = PATIENCE
    ) -> None:
        """Start the actors and wait until they have opened the index.

        Args:
            index: searched as it is now, whatever is published later.
            embedder: as of `Retriever`.
            actors: how many share the shards; None: one a core of the cluster. Never more than shards.
            patience: seconds after which an actor that has not answered counts as lost.

        Raises:
            IndexFolderError: a node does not see the index folder, or another one there.
        """
        super().__init__(index, embedder)
        self.patience = patience
        number = min(len(index.shards), actors or workers("cpu"))
        self._owned = [range(first, len(index.shards), number) for first in range(number)]
        folder = str(index.folder.absolute())
        self._actors = [_OWNER.remote(folder, index.generation, list(owned)) for owned in self._owned]
        try:
            with errors_in_one_line():
                seen = ray.get([actor.manifest.remote() for actor in self._actors])
            if any(manifest != index.manifest.model_dump_json() for manifest in seen):
                raise IndexFolderError(f"{index.folder} does not hold the same on all nodes: use a shared disk")
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

    def nearest(self, vector: np.ndarray, k: int, rerank: int | None = None) -> SearchResults[tuple[int, float]]:
        """As `Retriever.nearest`, of the passages whose actors answer."""
        calls = [actor.nearest.remote(vector, k, self.rerank(rerank)) for actor in self._actors]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=self.patience)
        found: Ranking = []
        lost = 0
        for call, owned in zip(calls, self._owned, strict=True):
            try:
                found += ray.get(call, timeout=0)
            except ray.exceptions.RayError as error:
                if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error, RagxError):
                    raise  # no loss but a defect
                lost += sum(len(self.index.shards[number]) for number in owned)
        found.sort(key=lambda hit: (-hit[1], hit[0]))
        return SearchResults(found[:k], lost / len(self.index) if lost else 0.0)


class _Owner:
    """Searches some shards of one generation."""

    def __init__(self, folder: str, generation: str, numbers: list[int]) -> None:
        self.folder, self.generation, self.numbers = Path(folder), generation, numbers

    @cached_property
    def index(self) -> Index:
        """Opened when it is asked for, and so again where the disk was not there at first."""
        try:
            return Index.open(self.folder, self.generation)
        except IndexFolderError as error:
            raise IndexFolderError(f"on node {node()}: {error}") from None

    def manifest(self) -> str:
        return self.index.manifest.model_dump_json()

    def nearest(self, vector: np.ndarray, k: int, rerank: int) -> Ranking:
        return best_of([search_shard(self.index.shards[number], vector, k, rerank) for number in self.numbers], k)


_OWNER: Any = ray.remote(max_restarts=-1, scheduling_strategy="SPREAD")(_Owner)
