"""Many questions at once: a bounded queue, time limits, and clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ragx.engine.batching import BatchDecoder
from ragx.rag import RAG
from ragx.types import Answer
from ragx_apps.server.errors import ApiError
from ragx_apps.server.metrics import Metrics

POLL = 0.2
"""Seconds between two looks at whether the client is still there."""

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Asking:
    """A RAG for many clients: `batch` answers are decoded at once, `queue` more requests wait, others are refused."""

    def __init__(self, rag: RAG, metrics: Metrics, *, batch: int = 8, queue: int = 32, time_limit: float = 300) -> None:
        """Start the decoder; `close` ends it.

        Args:
            rag: an index and its models; its readers decode in one batch from now on.
            metrics: where to count.
            batch: answers decoded at once.
            queue: requests that wait beyond.
            time_limit: seconds from a request to its whole answer.
        """
        self.rag, self.metrics, self.time_limit = rag, metrics, time_limit
        self.room = batch + queue
        self.admitted = 0
        self._typical_seconds = 1.0
        self._threads = ThreadPoolExecutor(self.room, "ragx-ask")
        reader = next(iter(rag.readers.values()))
        self.decoder = BatchDecoder(reader.model, reader.tokenizer, batch)
        for reader in rag.readers.values():
            reader.batch = self.decoder
        metrics.gauge("ragx_answers_running", "Answers being decoded.", lambda: self.decoder.running)
        metrics.gauge("ragx_answers_waiting", "Answers that wait for the decoder.", lambda: self.decoder.waiting)
        metrics.gauge("ragx_requests_admitted", "Requests being worked on or waiting.", lambda: self.admitted)

    def close(self) -> None:
        """End what is still under way."""
        self.decoder.close()
        self._threads.shutdown(cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """A piece of work that takes a moment, in a thread.

        Raises:
            ApiError: 429, there is no room.
        """
        return await asyncio.wrap_future(self._admit(work))

    async def answer(
        self, question: str, is_gone: Callable[[], Awaitable[bool]], **options: Any
    ) -> AsyncIterator[str | Answer]:
        """The pieces of the answer as they come, then the answer.

        Args:
            question: the question.
            is_gone: whether the client has gone away.
            options: of `RAG.ask`.

        Raises:
            ApiError: 429, there is no room; 503, it took too long.
            ClientGone: the client went away.
            RagxError: as `RAG.ask`.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[str | Answer | Exception] = asyncio.Queue()
        cancel = threading.Event()

        def tell(event: str | Answer | Exception) -> None:
            _in_loop(loop, lambda: events.put_nowait(event))

        def ask() -> None:
            try:
                answer = self.rag.ask(question, on_text=tell, cancel=cancel, **options)
                self._count(answer)
                tell(answer)
            except Exception as error:  # raised to the client's own task
                tell(error)

        started = looked = time.monotonic()
        self._admit(ask)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), POLL)
                except TimeoutError:
                    event = ""
                now = time.monotonic()
                if now - started > self.time_limit:
                    raise ApiError(503, f"no whole answer within {self.time_limit:g} seconds", code="time_limit")
                if now - looked > POLL:
                    looked = now
                    if await is_gone():
                        raise ClientGone
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Answer):
                    if event.finish == "cancelled":  # by nobody here: the decoder was closed
                        raise ApiError(503, "the server is stopping")
                    yield event
                    return
                if event:
                    yield event
        finally:
            cancel.set()

    def _admit(self, work: Callable[[], T]) -> Any:
        if self.admitted >= self.room:
            wait = str(math.ceil(self._typical_seconds))
            raise ApiError(429, "too many requests are waiting; try again later", headers={"Retry-After": wait})
        loop = asyncio.get_running_loop()
        begun = time.monotonic()

        def done() -> None:
            self.admitted -= 1
            self._typical_seconds += 0.1 * (time.monotonic() - begun - self._typical_seconds)

        future = self._threads.submit(work)
        self.admitted += 1
        future.add_done_callback(lambda _: _in_loop(loop, done))
        return future

    def _count(self, answer: Answer) -> None:
        self.metrics.searched(answer.hits)
        self.metrics.ended.labels(answer.finish).inc()
        if answer.answer_tokens:
            self.metrics.first_token.observe(answer.timings.first_token)
        self.metrics.prompt_tokens.inc(answer.prompt_tokens)
        self.metrics.answer_tokens.inc(answer.answer_tokens)


def _in_loop(loop: asyncio.AbstractEventLoop, step: Callable[[], object]) -> None:
    """Take a step in the loop's own thread; nowhere once the server has stopped."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(step)
