"""`/v1/search`: passages without an answer."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from ragx.rag import RAG
from ragx.reader.splitting import split_question
from ragx.retrieval import SearchResults, search_with_effort
from ragx.retrieval.rerankers import search_reranked
from ragx.types import Hit, SearchMethod
from ragx_apps.server.errors import ApiError
from ragx_apps.server.models import ServedModels
from ragx_apps.server.requests import SearchRequest
from ragx_apps.server.responses import HitList
from ragx_apps.server.service import Service


def search_router(service: Service, models: ServedModels) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/search")
    async def search(body: SearchRequest) -> HitList:
        """Find the passages that match a query best."""
        if not body.query.strip():
            raise ApiError(400, "the query is empty", param="query")
        rag = service.rag if body.model is None else models.index(body.model)
        check_method(rag, body.method)

        def find(k: int) -> SearchResults[Hit]:
            retriever = rag.retriever
            return search_with_effort(
                retriever,
                [body.query],
                k,
                effort=body.effort or rag.effort,
                method=body.method or rag.method,
                selected=retriever.select(rag.where, body.where),
                split=partial(split_question, rag.readers),
            )

        hits = await service.run(lambda: search_reranked(find, body.query, body.k, rag.reranker))
        service.metrics.searched(hits)
        return HitList(data=hits, notes=hits.notes)

    return router


def check_method(rag: RAG, method: SearchMethod | None) -> None:
    """Raise an `ApiError` (400) where a method needs an embedder and none is loaded."""
    if rag.retriever.embedder is None and method not in (None, "bm25"):
        raise ApiError(400, "this server searches with bm25 only", param="method")
