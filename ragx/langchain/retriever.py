"""RagxRetriever: the best passages of a ragx index for a question, as LangChain documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr

from ragx.config import RERANK
from ragx.index import Index
from ragx.index.names import default_index
from ragx.langchain.documents import to_document
from ragx.langchain.embeddings import RagxEmbeddings
from ragx.reader.base import Reader
from ragx.reader.conversation import question_text
from ragx.reader.reranking import open_reranker
from ragx.retrieval import CurrentIndex, Retriever, search_with_effort
from ragx.retrieval.effort import Split
from ragx.retrieval.rerankers import Reranker, search_reranked
from ragx.types import Effort, Embedder, SearchMethod
from ragx.util.terminal import notice

Folder = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]


class RagxRetriever(BaseRetriever):
    """Searches the current generation of an index built by `ragx index build` or a `RagxVectorStore`.

    >>> RagxRetriever(index="my-index", k=10).invoke("When did we sign the lease?")
    """

    model_config = ConfigDict(extra="forbid")

    index: Folder = Field(default_factory=lambda: str(default_index()))
    """The name or folder of an index; the default is `RAGX_INDEX`, or the default index."""
    k: int = 60
    """How many documents to return; a call may override it."""
    method: SearchMethod = "hybrid"
    """`dense`, `bm25`, or both fused by reciprocal rank."""
    rerank: Annotated[str, Field(min_length=1)] = RERANK
    """What reorders the first hits: `none`, a cross-encoder (name, folder or Hub id), `late`, `attention` or the
    URL of a rerank API."""
    effort: Effort = "low"
    """`medium` also searches for what the first hits name, for questions that need several passages; a call may
    override it."""
    split: Split | None = None
    """For the effort `high`: the parts of a question, which are searched too; a call may override it."""
    where: str | None = None
    """Only documents whose fields pass, such as `year>=2020` (docs/filters.md); a call may override it."""
    device: str | None = None
    """A torch device for embedder and reranker; None: a GPU where there is one."""
    dtype: str | None = None
    """Number format of the embedder; None: what the device multiplies fastest."""

    _current: CurrentIndex | None = PrivateAttr(default=None)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: str | None = None,
        effort: Effort | None = None,
        split: Split | None = None,
    ) -> list[Document]:
        k = self.k if k is None else k
        query = question_text(query)
        retriever = self._retriever()
        selected = retriever.select(self.where if where is None else where)
        search = partial(
            search_with_effort,
            retriever,
            [query],
            effort=effort or self.effort,
            method=self.method,
            selected=selected,
            split=split or self.split,
        )
        hits = search_reranked(search, query, k, self.open_reranker(self.rerank))
        for note in hits.notes:
            notice(note)
        return [to_document(hit.passage) for hit in hits]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        where: str | None = None,
        effort: Effort | None = None,
        split: Split | None = None,
    ) -> list[Document]:
        return await run_in_executor(
            None,
            self._get_relevant_documents,
            query,
            run_manager=run_manager.get_sync(),
            k=k,
            where=where,
            effort=effort,
            split=split,
        )

    def open_reranker(self, name: str, reader: Callable[[], Reader | None] | None = None) -> Reranker | None:
        """The reranker of this name for hits of the index; `reader`: as of `ragx.reader.reranking.open_reranker`."""
        return open_reranker(name, self.device, self._retriever().index.manifest.embedder.name, reader)

    def _retriever(self) -> Retriever:
        """Over the index's current generation."""
        if self._current is None:
            self._current = CurrentIndex(Path(self.index), lambda index: Retriever(index, self._embedder(index)))
        return self._current.retriever

    def _embedder(self, index: Index) -> Embedder | None:
        if self.method == "bm25":
            return None
        name = index.manifest.embedder.name
        return RagxEmbeddings(model=name, device=self.device, dtype=self.dtype).embedder
