"""`/v1/chat/completions` and `/v1/completions`: answers, whole or streamed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from ragx.types import Answer, Message
from ragx_apps.server.errors import as_api_error
from ragx_apps.server.models import ServedModels
from ragx_apps.server.requests import AnswerRequest, ChatRequest, CompletionRequest
from ragx_apps.server.responses import ChatCompletion, Chunks, Completion, whole_answer
from ragx_apps.server.search import check_method
from ragx_apps.server.service import ClientDisconnected, Service

STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
CLIENT_CLOSED = 499
"""The status in the metrics of a request whose client has left; nobody receives it."""


def completions_router(service: Service, models: ServedModels, *, k: int, prompt_passages: int) -> APIRouter:
    """The routes; a request's own settings override `k` and `prompt_passages`."""
    router = APIRouter()
    answers = _Answers(service, models, k, prompt_passages)

    @router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAM)
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """Answer the last message from the index; the messages before it are the conversation."""
        *history, question = (message.message() for message in body.messages)
        return await answers.respond(request, body, question.content, history)

    @router.post("/v1/completions", response_model=Completion, responses=STREAM)
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """Answer the prompt, which is the question, from the index."""
        return await answers.respond(request, body, body.question, [])

    return router


@dataclass(frozen=True)
class _Answers:
    service: Service
    models: ServedModels
    k: int
    prompt_passages: int

    async def respond(
        self, request: Request, body: AnswerRequest, question: str, history: Sequence[Message]
    ) -> Response:
        chat = isinstance(body, ChatRequest)
        head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self.models.reader,
        }
        events = self._events(request, body, question, history)
        try:
            if body.stream:
                with_usage = bool(body.stream_options and body.stream_options.include_usage)
                first = await anext(events)  # an error before the first event has its own status
                lines = _lines(first, events, Chunks(head, chat=chat, with_usage=with_usage))
                return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
            async for event in events:
                if isinstance(event, Answer):
                    whole = whole_answer(head, event, chat=chat)
                    return Response(whole.model_dump_json(), media_type="application/json")
        except ClientDisconnected:
            pass
        return Response(status_code=CLIENT_CLOSED)

    async def _events(
        self, request: Request, body: AnswerRequest, question: str, history: Sequence[Message]
    ) -> AsyncIterator[str | Answer]:
        self.models.check(body.model, self.models.reader)
        check_method(self.service.rag, body.ragx.method if body.ragx else None)
        options = {
            "k": self.k,
            "prompt_passages": self.prompt_passages,
            **(body.ragx.model_dump(exclude_none=True) if body.ragx else {}),
            "sampling": body.sampling(),
        }
        async for event in self.service.answer(question, request.is_disconnected, history=history, **options):
            yield event


async def _lines(first: str | Answer, rest: AsyncIterator[str | Answer], chunks: Chunks) -> AsyncIterator[str]:
    """Server-sent events in the form that OpenAI's clients read."""
    try:
        for chunk in [*chunks.first(), *chunks.of(first)]:
            yield _event(chunk)
        async for event in rest:
            for chunk in chunks.of(event):
                yield _event(chunk)
    except ClientDisconnected:
        return
    except Exception as error:  # too late for an error status
        yield _event(as_api_error(error).body())
        return
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"
