"""`/v1/models`: the reader that answers and the embedder for embeddings."""

from __future__ import annotations

import time

from fastapi import APIRouter

from ragx_apps.server.errors import ApiError
from ragx_apps.server.responses import Model, ModelList


class ServedModels:
    """The models that clients can name."""

    def __init__(self, reader: str, embedder: str | None) -> None:
        """`embedder` is None where the index is searched by BM25 alone."""
        self.reader, self.embedder = reader, embedder
        created = int(time.time())
        self.models = {name: Model(id=name, created=created) for name in (reader, embedder) if name is not None}

    def check(self, name: str, expected: str | None) -> None:
        """Raise an `ApiError` (404) unless a client named the expected model."""
        if name != expected:
            names = " and ".join(self.models)
            message = f"model {name!r} is not available here; available: {names}"
            raise ApiError(404, message, param="model", code="model_not_found")


def models_router(served: ServedModels) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models() -> ModelList:
        """List the reader and the embedder."""
        return ModelList(data=list(served.models.values()))

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str) -> Model:
        """One model."""
        if name not in served.models:
            served.check(name, None)
        return served.models[name]

    return router
