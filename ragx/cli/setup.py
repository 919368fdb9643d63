"""What commands begin with: an index, who searches it, and the models that answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx.util.terminal import notice, waiting

if TYPE_CHECKING:
    from ragx.rag import RAG
    from ragx.retrieval import Retriever


def open_rag(index: Path | None, model: str | None, **options: Any) -> RAG:
    """Open an index and load its models, showing what is waited for; then what the user should know of them.

    Args:
        index: an index folder; None: the default one.
        model: the decoder or CEPE reader; None: the default one.
        options: the others of `RAG.from_index`, which checks them.

    Raises:
        IndexFolderError, ModelError, ConfigError: as `RAG.from_index`.
    """
    from ragx.models import resolve
    from ragx.rag import DEFAULT_MODEL, RAG

    name = model or DEFAULT_MODEL
    resolve(name)  # a download shows its own progress
    with waiting("loading models …"):
        rag = RAG.from_index(index, model=name, **options)
    for note in rag.notes:
        notice(note)
    return rag


@contextmanager
def connected(engine: str, address: str | None) -> Iterator[Callable[[Retriever], Retriever]]:
    """Connect to what an engine searches with; until the block ends, what is yielded puts it in a retriever's place.

    Raises:
        ConfigError: there is no such engine, Ray is not installed, or there is no cluster at the address.
    """
    from ragx.indexing.build import check_engine

    check_engine(engine, address)
    if engine == "local":
        yield lambda retriever: retriever
        return
    from ragx import distributed

    with distributed.cluster(address), ExitStack() as actors:
        yield lambda retriever: actors.enter_context(distributed.RayRetriever(retriever.index, retriever.embedder))
