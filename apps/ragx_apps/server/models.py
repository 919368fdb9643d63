"""`/v1/models`: the reader and its indexes, the embedders and the reranker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NoReturn

from fastapi import APIRouter

from ragx.rag import RAG
from ragx.retrieval import TextEmbedder
from ragx.retrieval.rerankers import Reranker
from ragx_apps.server.errors import ApiError
from ragx_apps.server.responses import Model, ModelList

PREFIX = "ragx/"
"""Before an index's name, in the name of a model that answers from it."""


class ServedModels:
    """The models that clients can name: the reader answers from the first index, `ragx/INDEX` from another."""

    def __init__(self, reader: str, first: RAG, indexes: Mapping[str, RAG]) -> None:
        """`first` is one of the indexes, unless they have no names."""
        self.reader = reader
        self._indexes = {reader: first} | {f"{PREFIX}{name}": rag for name, rag in indexes.items()}
        found = [rag.retriever.embedder for rag in self._indexes.values()]
        self._embedders = {each.name: each for each in found if isinstance(each, TextEmbedder)}
        self._first = first
        created = int(time.time())
        names = [*self._indexes, *self._embedders, *([first.reranker.name] if first.reranker else [])]
        self.models = {name: Model(id=name, created=created) for name in names}

    def index(self, name: str) -> RAG:
        """The index that a model answers from; an `ApiError` (404) if there is no such model."""
        return self._indexes[name] if name in self._indexes else self._missing(name)

    def embedder(self, name: str) -> TextEmbedder:
        """An embedder by its name; an `ApiError` (400, 404) if there is none."""
        if not self._embedders:
            raise ApiError(400, "this server searches with bm25 only and has no embedder")
        return self._embedders[name] if name in self._embedders else self._missing(name)

    def reranker(self, name: str | None) -> Reranker:
        """The reranker, by its name or without one; an `ApiError` (400, 404) if there is none."""
        reranker = self._first.reranker  # a reload replaces it
        if reranker is None:
            raise ApiError(400, "this server has no reranker: start it with --rerank NAME")
        return reranker if name in (None, reranker.name) else self._missing(str(name))

    def model(self, name: str) -> Model:
        """One model; an `ApiError` (404) if there is no such model."""
        return self.models[name] if name in self.models else self._missing(name)

    def _missing(self, name: str) -> NoReturn:
        message = f"model {name!r} is not available here; available: {', '.join(self.models)}"
        raise ApiError(404, message, param="model", code="model_not_found")


def models_router(served: ServedModels) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models() -> ModelList:
        """List all models."""
        return ModelList(data=list(served.models.values()))

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str) -> Model:
        """One model."""
        return served.model(name)

    return router
