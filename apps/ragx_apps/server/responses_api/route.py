"""The route `/v1/responses`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.responses import Response as HttpResponse

from ragx.types import Answer
from ragx_apps.server.errors import as_api_error
from ragx_apps.server.models import ServedModels
from ragx_apps.server.responses import CLIENT_CLOSED, STREAM
from ragx_apps.server.responses_api.events import Response
from ragx_apps.server.responses_api.request import ResponseRequest
from ragx_apps.server.search import check_method
from ragx_apps.server.service import ClientDisconnected, Service


def responses_router(service: Service, models: ServedModels, defaults: Mapping[str, Any]) -> APIRouter:
    """The route; `defaults` are arguments of `RAG.ask` that requests may override."""
    router = APIRouter()

    @router.post("/v1/responses", responses=STREAM)
    async def responses(request: Request, body: ResponseRequest) -> HttpResponse:
        """Answer the last message of `input` from the index; the messages before it are the conversation."""
        rag = models.index(body.model)
        options = body.options(defaults)
        check_method(rag, options.get("method"))
        *history, question = body.messages
        events = service.answer(rag, question.content, request.is_disconnected, history=history, **options)
        response = Response(body)
        try:
            if body.stream:
                lines = _lines(await anext(events), events, response)  # an error before it has its own status
                return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
            async for event in events:
                if isinstance(event, Answer):
                    return JSONResponse(response.whole(event))
        except ClientDisconnected:
            pass
        return HttpResponse(status_code=CLIENT_CLOSED)

    return router


async def _lines(first: str | Answer, rest: AsyncIterator[str | Answer], response: Response) -> AsyncIterator[str]:
    try:
        for line in [*response.begin(), *response.of(first)]:
            yield line
        async for event in rest:
            for line in response.of(event):
                yield line
    except ClientDisconnected:
        return
    except Exception as error:  # too late for an error status
        yield response.failed(as_api_error(error))
