"""The application of `ragx serve`. Its OpenAPI document is at /openapi.json."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware

from ragx import __version__
from ragx.config import PROMPT_PASSAGES, ReaderOptions
from ragx_apps.server.completions import completions_router
from ragx_apps.server.embeddings import embeddings_router
from ragx_apps.server.errors import ErrorBody, add_handlers
from ragx_apps.server.logs import HEADER, RequestIds
from ragx_apps.server.metrics import MetricsMiddleware
from ragx_apps.server.models import ServedModels, models_router
from ragx_apps.server.protection import Protection
from ragx_apps.server.reranking import rerank_router
from ragx_apps.server.responses import Health
from ragx_apps.server.responses_api.route import responses_router
from ragx_apps.server.search import search_router
from ragx_apps.server.service import Service

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request is wrong, or (429) should be sent again later."},
    "5XX": {"model": ErrorBody, "description": "503: it took too long, memory is short, or the server is stopping."},
}


def create_app(
    service: Service,
    model: str,
    *,
    k: int = 60,
    prompt_passages: int = PROMPT_PASSAGES,
    refuse_below: float = ReaderOptions().refuse_below,
    token: str | None = None,
    host: str = "127.0.0.1",
    origins: Sequence[str] = (),
) -> FastAPI:
    """Create the application.

    Args:
        service: answers the questions; closed with the application.
        model: the reader's name for clients.
        k: passages to retrieve and read, unless a request says otherwise.
        prompt_passages: how many of them are in the prompt, unless a request says otherwise.
        refuse_below: likelihood below which the answer is that no passage holds it, unless a request says otherwise.
        token: the bearer token that clients must send; None: none.
        host: the address it listens on; on a loopback address without a token, other host names are refused.
        origins: origins of pages in browsers that may use the server, as `check_origin` gives them.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    # no documentation pages: they load scripts from other servers
    app = FastAPI(title="ragx", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, responses=ERRORS)
    app.add_middleware(Protection, token=token, host=host)
    if origins:  # before the token is checked, which browsers leave out of a preflight
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            allow_private_network=True,  # a public page may reach a server on the visitor's machine
            expose_headers=["Retry-After", HEADER],
        )
    add_handlers(app)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics)
    app.add_middleware(RequestIds)

    models = ServedModels(model, service.rag, service.indexes)
    defaults = {"k": k, "prompt_passages": prompt_passages, "refuse_below": refuse_below}
    app.include_router(completions_router(service, models, defaults))
    app.include_router(responses_router(service, models, defaults))
    app.include_router(embeddings_router(service, models))
    app.include_router(search_router(service, models))
    app.include_router(rerank_router(service, models))
    app.include_router(models_router(models))

    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether the server is up; needs no token."""
        return Health()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Counters and times for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
