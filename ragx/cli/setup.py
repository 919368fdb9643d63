"""Shared command setup: opening an index and the models, on this machine or with a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import ModelOptions, SearchOptions
from ragx.types import Embedder, ReaderName, SearchMethod
from ragx.util.terminal import notice, waiting

if TYPE_CHECKING:
    from ragx.rag import RAG
    from ragx.reader.base import Reader
    from ragx.retrieval import CurrentIndex


@contextmanager
def opened_model(models: ModelOptions) -> Iterator[RAG]:
    """Load models without an index, showing progress; close them at the end.

    Raises:
        ModelError, ConfigError: as `RAG.from_index`.
    """
    from ragx.models import resolve
    from ragx.rag import RAG

    if not models.is_remote:
        resolve(models.model)  # a download shows its own progress
    with waiting("loading models …"):
        rag = RAG.from_model(models)
    for note in rag.notes:
        notice(note)
    with rag:
        yield rag


@contextmanager
def opened_rag(
    index: Path | None,
    models: ModelOptions,
    search: SearchOptions,
    *,
    engine: str = "local",
    address: str | None = None,
) -> Iterator[RAG]:
    """Open an index and load its models, showing progress; close them at the end. `where`: as of `RAG.from_index`.

    Raises:
        IndexFolderError, ModelError, ConfigError: as `RAG.from_index`.
    """
    with opened_rags([index], models, search, engine=engine, address=address) as (rag,):
        yield rag


@contextmanager
def opened_rags(
    indexes: Sequence[Path | None],
    models: ModelOptions,
    search: SearchOptions,
    *,
    engine: str = "local",
    address: str | None = None,
    replicas: int = 1,
) -> Iterator[list[RAG]]:
    """As `opened_rag` for several indexes, which share their models; `replicas` as of `RayRetriever`."""
    from ragx.engine.open import choose_backend
    from ragx.index.manifest import current_generation
    from ragx.index.names import index_folder
    from ragx.models import resolve
    from ragx.rag import RAG
    from ragx.reader.loading import open_readers
    from ragx.reader.reranking import open_reranker
    from ragx.retrieval import open_embedder, open_index
    from ragx.retrieval.filters.grammar import parse_filter

    with connected(engine, address):
        if search.where is not None:
            parse_filter(search.where)
        for index in indexes:  # report mistakes before anything is downloaded or loaded
            current_generation(index_folder(index))
            if search.where is not None:
                open_index(index, method="bm25").retriever.select(search.where)
        if not models.is_remote:
            resolve(models.model)  # a download shows its own progress
        with waiting("loading models …"), ThreadPoolExecutor(1) as opening:
            readers: Callable[[], tuple[dict[ReaderName, Reader], list[str]]] = cache(lambda: open_readers(models))
            if not models.is_remote and choose_backend(models)[0] == "cpu":  # it opens about as fast as an index
                readers = opening.submit(open_readers, models).result
            embedder = cache(partial(open_embedder, device=models.device, dtype=models.dtype))
            opened = [
                open_search(
                    *(index, models.device, models.dtype),
                    method=search.method,
                    engine=engine,
                    embedder=embedder,
                    replicas=replicas,
                )
                for index in indexes
            ]
            rerankers = []
            for each in opened:
                name = each.retriever.index.manifest.embedder.name
                rerankers.append(open_reranker(search.rerank, models.device, name, lambda: readers()[0].get("cepe")))
            loaded, notes = readers()
        for note in notes:
            notice(note)
        rags = [
            RAG(
                each,
                loaded,
                method=search.method,
                where=search.where,
                effort=search.effort,
                reranker=reranker,
                frugal=models.frugal,
                notes=notes,
            )
            for each, reranker in zip(opened, rerankers, strict=True)
        ]
        with rags[0]:  # closes the readers of all
            yield rags


def open_search(
    index: Path | None,
    device: str | None,
    dtype: str,
    *,
    method: SearchMethod,
    engine: str,
    embedder: Callable[[str], Embedder] | None = None,
    replicas: int = 1,
) -> CurrentIndex:
    """Open an index to search it here, or with the Ray cluster that `connected` connected to."""
    from ragx.retrieval import open_index

    if engine == "local":
        return open_index(index, method=method, device=device, dtype=dtype, embedder=embedder)
    from ragx.distributed import RayRetriever

    return open_index(
        index,
        method=method,
        device=device,
        dtype=dtype,
        retriever=lambda opened, embedder=None, device=None: RayRetriever(opened, embedder, replicas=replicas),
        embedder=embedder,
    )


@contextmanager
def connected(engine: str, address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster, if that is the engine, until the block ends.

    Raises:
        ConfigError: there is no such engine, Ray is not installed, or there is no cluster at the address.
    """
    from ragx.indexing.build import check_engine

    check_engine(engine, address)
    if engine == "local":
        yield
        return
    from ragx import distributed

    with distributed.cluster(address):
        yield
