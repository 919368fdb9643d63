"""RayRetriever: Ray actors search the shards of an index; each actor has some of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import ray

from ragx.distributed.cluster import node, raise_worker_errors, workers
from ragx.distributed.replicas import Replicas
from ragx.errors import IndexFolderError, RagxError
from ragx.index import Index
from ragx.index.lexical import Lexical
from ragx.retrieval import Retriever
from ragx.retrieval.retriever import Ranking, SearchResults, best_of, part_of, search_shard
from ragx.types import Embedder

TIMEOUT = 30.0
"""Seconds to wait for an actor."""
HEDGE_AFTER = 0.2
"""Seconds after which another actor with the same shards is asked too."""

WordSearch = tuple[int, Mapping[str, float], np.ndarray | None]
"""A lexical shard's number, the weights of words in it, and its rows to search, (rows,) bool; None: all."""


class RayRetriever(Retriever):
    """A `Retriever` whose vectors are searched by actors of the connected cluster, with the same hits.

    The actors also search the lexical index if it has several shards; otherwise this process does. This process reads
    the passages of hits. All nodes need access to the index folder.

    While an actor is lost, its shards are not searched; `SearchResults.unsearched` gives their share. Ray restarts an
    actor that died, and later searches use it again. With replicas, the one with the fewest unanswered searches is
    asked, and another as well if it is lost or slow (`Replicas`).
    """

    def __init__(
        self,
        index: Index,
        embedder: Embedder | None = None,
        *,
        actors: int | None = None,
        replicas: int = 1,
        timeout: float = TIMEOUT,
        hedge_after: float = HEDGE_AFTER,
    ) -> None:
        """Start the actors and wait until they have opened the index.

        Args:
            index: the generation to search, even after others are published.
            embedder: as for `Retriever`.
            actors: number of actors for all shards; None: one per core of the cluster. Never more than shards.
            replicas: how many times there are such actors.
            timeout: seconds after which shards whose actors have not answered count as lost.
            hedge_after: seconds after which the next replica is asked too.

        Raises:
            IndexFolderError: a node has no access to the index folder, or has a different folder there.
        """
        super().__init__(index, embedder)
        self.timeout, self.hedge_after = timeout, hedge_after
        number = min(len(index.shards), actors or workers("cpu"))
        self._actor_shards = [range(first, len(index.shards), number) for first in range(number)]
        folder = str(index.folder.absolute())
        self._actors = [  # (replicas, actors)
            [_ACTOR.remote(folder, index.generation, list(shards)) for shards in self._actor_shards]
            for _ in range(replicas)
        ]
        self._replicas = [Replicas(replicas) for _ in self._actor_shards]
        try:
            with raise_worker_errors():
                manifests = ray.get([actor.manifest.remote() for actors in self._actors for actor in actors])
            if any(manifest != index.manifest.model_dump_json() for manifest in manifests):
                raise IndexFolderError(f"{index.folder} differs between nodes: use a shared disk")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the actors."""
        for actors in self._actors:
            for actor in actors:
                ray.kill(actor)

    def __enter__(self) -> RayRetriever:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def nearest(
        self, vector: np.ndarray, k: int, rerank: int | None = None, selected: np.ndarray | None = None
    ) -> SearchResults[tuple[int, float]]:
        """As `Retriever.nearest`, for the shards whose actors answer."""
        parts = [[part_of(self.index.shards[number], selected) for number in shards] for shards in self._actor_shards]
        found = self._ask(
            range(len(parts)), lambda actor, place: actor.nearest.remote(vector, k, self.rerank(rerank), parts[place])
        )
        lost = [number for place, shards in enumerate(self._actor_shards) if place not in found for number in shards]
        missing = sum(len(self.index.shards[number]) for number in lost)
        return SearchResults(_merged(found.values(), k), missing / len(self.index) if missing else 0.0)

    def _search_words(self, weights: Sequence[Mapping[str, float]], k: int, selected: np.ndarray | None) -> Ranking:
        """As `Retriever._search_words`; this process searches shards whose actors do not answer."""
        if len(weights) == 1:
            return super()._search_words(weights, k, selected)
        lexical, actors = self.index.lexical, len(self._actor_shards)
        places = {place: range(place, len(weights), actors) for place in range(min(actors, len(weights)))}

        def parts(numbers: Iterable[int]) -> list[WordSearch]:
            return [(number, weights[number], lexical.part(number, selected)) for number in numbers]

        found = self._ask(places, lambda actor, place: actor.words.remote(k, parts(places[place])))
        lost = [number for place, numbers in places.items() if place not in found for number in numbers]
        return _merged([*found.values(), _search_words(lexical, k, parts(lost))], k)

    def _ask(self, places: Collection[int], call_actor: Callable[[Any, int], Any]) -> dict[int, Ranking]:
        """The rows and scores that one of the actors at each of these places finds, by place; without those lost."""
        calls: dict[Any, int] = {}
        asked: dict[int, list[int]] = {place: [] for place in places}
        found: dict[int, Ranking] = {}

        def ask(place: int, replica: int) -> None:
            call = call_actor(self._actors[replica][place], place)
            call.future().add_done_callback(lambda _: self._replicas[place].answered(replica))
            calls[call] = place
            asked[place].append(replica)

        for place in places:
            ask(place, self._replicas[place].first())
        deadline = time.monotonic() + self.timeout
        while len(found) < len(places) and time.monotonic() < deadline:
            _collect(calls, found, min(deadline, time.monotonic() + self.hedge_after))
            pending = {*calls.values()}
            for place in places:
                if place not in found:
                    replica = self._replicas[place].another(asked[place], has_failed=place not in pending)
                    if replica is not None:
                        ask(place, replica)
            if found.keys() >= {*calls.values()}:
                break
        return found


def _search_words(lexical: Lexical, k: int, parts: list[WordSearch]) -> Ranking:
    return best_of([lexical.search(number, weights, k, wanted) for number, weights, wanted in parts], k)


def _merged(rankings: Iterable[Ranking], k: int) -> Ranking:
    return sorted(chain.from_iterable(rankings), key=lambda hit: (-hit[1], hit[0]))[:k]


def _collect(calls: dict[Any, int], found: dict[int, Ranking], deadline: float) -> None:
    """Move the results of calls to `found` until there is one for each place, or no call is left, or time is up."""
    while any(place not in found for place in calls.values()):
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            return
        for call in ready:
            place = calls.pop(call)
            try:
                found[place] = ray.get(call)
            except ray.exceptions.RayError as error:
                if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error, RagxError):
                    raise  # a bug rather than a lost actor


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

    def words(self, k: int, parts: list[WordSearch]) -> Ranking:
        return _search_words(self.index.lexical, k, parts)


_ACTOR: Any = ray.remote(max_restarts=-1, scheduling_strategy="SPREAD")(_ShardActor)
