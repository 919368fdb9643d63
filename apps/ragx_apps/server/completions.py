"""`/v1/chat/completions` and `/v1/completions`: answers, whole or streamed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from ragx.types import Answer, Message
from ragx_apps.server.errors import as_api_error
from ragx_apps.server.front_ends import is_task, without_sources
from ragx_apps.server.models import ServedModels
from ragx_apps.server.requests import AnswerRequest, ChatRequest, CompletionRequest
from ragx_apps.server.responses import CLIENT_CLOSED, STREAM, ChatCompletion, Chunks, Completion, whole_answer
from ragx_apps.server.search import check_method
from ragx_apps.server.service import ClientDisconnected, Service

Event = tuple[int, str | Answer]
"""A piece of an answer or the whole of it, with the answer's number."""


def completions_router(service: Service, models: ServedModels, defaults: Mapping[str, Any]) -> APIRouter:
    """The routes; `defaults` are arguments of `RAG.ask` that requests may override."""
    router = APIRouter()
    answers = _Answers(service, models, defaults)

    @router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAM)
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """Answer the last message from the index; the messages before it are the conversation.

        A front end's own prompt, such as for a title, is answered without the index.
        """
        *history, question = (message.message() for message in body.messages)
        if service.append_sources:
            history = [replace(each, content=without_sources(each.content)) for each in history]
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
    defaults: Mapping[str, Any]

    async def respond(
        self, request: Request, body: AnswerRequest, question: str, history: Sequence[Message]
    ) -> Response:
        chat = isinstance(body, ChatRequest)
        head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": body.model,
        }
        events = self._events(request, body, question, history)
        answers: dict[int, Answer] = {}
        try:
            if body.stream:
                with_usage = bool(body.stream_options and body.stream_options.include_usage)
                first = await anext(events)  # an error before the first event has its own status
                lines = _lines(first, events, Chunks(head, chat=chat, with_usage=with_usage, answers=body.n or 1))
                return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
            async for number, event in events:
                if isinstance(event, Answer):
                    answers[number] = event
        except ClientDisconnected:
            return Response(status_code=CLIENT_CLOSED)
        whole = whole_answer(head, [answers[number] for number in sorted(answers)], chat=chat)
        return Response(whole.model_dump_json(), media_type="application/json")

    def _events(
        self, request: Request, body: AnswerRequest, question: str, history: Sequence[Message]
    ) -> AsyncIterator[Event]:
        options = body.options(self.defaults)
        rag = self.models.index(body.model)
        check_method(rag, options.get("method"))
        if is_task(question):
            rag = self.service.without_index
        return self.service.answers(rag, question, body.n or 1, request.is_disconnected, history=history, **options)


async def _lines(first: Event, rest: AsyncIterator[Event], chunks: Chunks) -> AsyncIterator[str]:
    """Server-sent events in the form that OpenAI's clients read."""
    try:
        for chunk in [*chunks.first(), *chunks.of(*first)]:
            yield _event(chunk)
        async for event in rest:
            for chunk in chunks.of(*event):
                yield _event(chunk)
    except ClientDisconnected:
        return
    except Exception as error:  # too late for an error status
        yield _event(as_api_error(error).body())
        return
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"
