"""The routes of `ragx serve`. Its own OpenAPI document is at /openapi.json."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tokenizers import Tokenizer

from ragx import __version__
from ragx.retrieval import TextEmbedder
from ragx.types import Answer, Message, Passage, SearchMethod
from ragx.util.text import without_surrogates
from ragx_apps.server.asking import Asking, ClientGone
from ragx_apps.server.errors import ApiError, ErrorBody, add_handlers, as_api_error
from ragx_apps.server.metrics import Measured
from ragx_apps.server.protection import Protection
from ragx_apps.server.requests import ChatRequest, Completing, CompletionRequest, EmbeddingRequest, SearchRequest
from ragx_apps.server.responses import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    Chunks,
    Completion,
    Embedding,
    EmbeddingList,
    EmbeddingUsage,
    Health,
    HitList,
    Model,
    ModelList,
    TextChoice,
    finish_reason,
    ragx_part,
    usage,
)

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What is wrong with the request; 429: try again later."},
    "5XX": {"model": ErrorBody, "description": "503: it took too long, memory is short, or the server is stopping."},
}
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
CLIENT_CLOSED = 499
"""What the metrics call a request whose client has gone; nobody gets it."""


def create_app(
    asking: Asking,
    model: str,
    *,
    k: int = 60,
    prompt_passages: int = 10,
    token: str | None = None,
    host: str = "127.0.0.1",
) -> FastAPI:
    """The server's application.

    Args:
        asking: who answers.
        model: what clients call the reader.
        k: passages to retrieve and read where a client does not say.
        prompt_passages: how many of them stand in the prompt.
        token: what clients must send as their bearer token; None: nothing.
        host: where it listens; a loopback address without a token is answered under its own names alone.
    """
    created = int(time.time())
    rag, metrics = asking.rag, asking.metrics
    embedder = rag.retriever.embedder if isinstance(rag.retriever.embedder, TextEmbedder) else None
    if embedder is not None:
        tokenizer, window = _whole_text_tokenizer(embedder), embedder.tokenizer.model_max_length
    models = [Model(id=name, created=created) for name in (model, *([embedder.name] if embedder else []))]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(asking.close)

    # no pages of documentation: they would load their scripts from elsewhere
    app = FastAPI(title="ragx", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, responses=ERRORS)
    app.add_middleware(Protection, token=token, host=host)
    add_handlers(app)
    app.add_middleware(Measured, metrics=metrics)

    def check_model(name: str, known: str | None) -> None:
        if name != known:
            there = " and ".join(each.id for each in models)
            raise ApiError(404, f"there is no model {name!r} here, but {there}", param="model", code="model_not_found")

    def check_method(method: SearchMethod | None) -> None:
        if rag.retriever.embedder is None and method not in (None, "bm25"):
            raise ApiError(400, "this server searches by words alone (bm25)", param="method")

    async def events_of(
        request: Request, asked: Completing, question: str, history: list[Message]
    ) -> AsyncIterator[str | Answer]:
        check_model(asked.model, model)
        check_method(asked.ragx.method if asked.ragx else None)
        own = asked.ragx.model_dump(exclude_none=True) if asked.ragx else {}
        options = {"k": k, "prompt_passages": prompt_passages, **own, "sampling": asked.sampling(), "history": history}
        async for event in asking.answer(question, request.is_disconnected, **options):
            yield event

    async def respond(
        request: Request,
        asked: Completing,
        question: str,
        history: list[Message],
        whole: Callable[[str, Answer], Response],
        *,
        chat: bool,
    ) -> Response:
        identity = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        events = events_of(request, asked, question, history)
        try:
            if asked.stream:
                options = asked.stream_options
                chunks = Chunks(
                    identity, int(time.time()), model, chat=chat, with_usage=bool(options and options.include_usage)
                )
                first = await anext(events)  # an error before it has its own status
                lines = _lines(_then(first, events), chunks)
                return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
            async for event in events:
                if isinstance(event, Answer):
                    return whole(identity, event)
        except ClientGone:
            pass
        return Response(status_code=CLIENT_CLOSED)

    @app.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAM)
    async def chat_completions(request: Request, asked: ChatRequest) -> Response:
        """Answer the last message from the index; the messages before it are its conversation."""
        *history, question = (message.message() for message in asked.messages)

        def whole(identity: str, answer: Answer) -> Response:
            message = AssistantMessage(content=answer.text)
            return _json(
                ChatCompletion(
                    id=identity,
                    created=int(time.time()),
                    model=model,
                    choices=[ChatChoice(message=message, finish_reason=finish_reason(answer))],
                    usage=usage(answer),
                    ragx=ragx_part(answer),
                )
            )

        return await respond(request, asked, question.content, history, whole, chat=True)

    @app.post("/v1/completions", response_model=Completion, responses=STREAM)
    async def completions(request: Request, asked: CompletionRequest) -> Response:
        """Answer the prompt, a question, from the index."""

        def whole(identity: str, answer: Answer) -> Response:
            return _json(
                Completion(
                    id=identity,
                    created=int(time.time()),
                    model=model,
                    choices=[TextChoice(text=answer.text, finish_reason=finish_reason(answer))],
                    usage=usage(answer),
                    ragx=ragx_part(answer),
                )
            )

        return await respond(request, asked, asked.question, [], whole, chat=False)

    @app.post("/v1/embeddings")
    async def embeddings(asked: EmbeddingRequest) -> EmbeddingList:
        """Vectors of texts, by the embedder of the index."""
        if embedder is None:
            raise ApiError(400, "this server searches by words alone (bm25) and has no embedder")
        check_model(asked.model, embedder.name)
        if asked.dimensions not in (None, embedder.dimension):
            raise ApiError(400, f"{embedder.name} has {embedder.dimension} dimensions", param="dimensions")
        texts = [without_surrogates(text) for text in asked.texts]
        passages = [Passage("", "", "", text, 0, 0, len(text), "") for text in texts]

        def embed() -> tuple[np.ndarray, int]:
            tokens = [len(encoded.ids) for encoded in tokenizer.encode_batch(texts)]
            for place, number in enumerate(tokens):
                if number > window:  # the embedder would read its beginning alone
                    raise ApiError(
                        400,
                        f"input {place} has {number} tokens, but {embedder.name} reads {window}: split it",
                        param="input",
                        code="context_length_exceeded",
                    )
            return embedder.encode_passages(passages), sum(tokens)

        vectors, tokens = await asking.run(embed)
        as_text = asked.encoding_format == "base64"
        data = [
            Embedding(index=index, embedding=_base64(vector) if as_text else vector.tolist())
            for index, vector in enumerate(vectors)
        ]
        spent = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return EmbeddingList(data=data, model=embedder.name, usage=spent)

    @app.post("/v1/search")
    async def search(asked: SearchRequest) -> HitList:
        """The passages of the index that fit a query best."""
        if not asked.query.strip():
            raise ApiError(400, "the query is empty", param="query")
        check_method(asked.method)
        method: SearchMethod = asked.method or rag.method
        hits = await asking.run(lambda: rag.retriever.search(asked.query, asked.k, method))
        metrics.searched(hits)
        return HitList(data=hits, notes=hits.notes)

    @app.get("/v1/models")
    async def list_models() -> ModelList:
        """The reader, and the embedder for embeddings."""
        return ModelList(data=models)

    @app.get("/v1/models/{name:path}")
    async def get_model(name: str) -> Model:
        """One of them."""
        found = {each.id: each for each in models}
        if name not in found:
            check_model(name, None)
        return found[name]

    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether the server is up; needs no token."""
        return Health()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Counts and times for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _then(first: str | Answer, rest: AsyncIterator[str | Answer]) -> AsyncIterator[str | Answer]:
    yield first
    async for event in rest:
        yield event


async def _lines(events: AsyncIterator[str | Answer], chunks: Chunks) -> AsyncIterator[str]:
    """Server-sent events, as OpenAI's clients read them."""
    try:
        if start := chunks.first():
            yield _event(start)
        async for event in events:
            if isinstance(event, Answer):
                for chunk in chunks.last(event):
                    yield _event(chunk)
            else:
                yield _event(chunks.piece(event))
    except ClientGone:
        return
    except Exception as error:  # the status is sent already
        yield _event(as_api_error(error).body())
        return
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _json(value: ChatCompletion | Completion) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


def _whole_text_tokenizer(embedder: TextEmbedder) -> Tokenizer:
    """The embedder's tokenizer, but it cuts nothing; threads may share it."""
    own: Any = embedder.tokenizer
    copied = Tokenizer.from_str(own.backend_tokenizer.to_str())
    copied.no_truncation()
    copied.no_padding()
    copied.encode_special_tokens = True  # a control string in a text is text
    return copied


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
