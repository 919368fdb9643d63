"""What the routes call: questions and other tasks within time limits, for clients that may disconnect."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from ragx.rag import RAG
from ragx.types import Answer
from ragx_apps.queue import BEAT, QuestionQueue
from ragx_apps.server.errors import ApiError
from ragx_apps.server.metrics import Metrics

T = TypeVar("T")


class ClientDisconnected(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """A `RAG` for many clients."""

    def __init__(
        self, rag: RAG, metrics: Metrics, *, batch: int = 8, waiting: int = 32, time_limit: float = 300
    ) -> None:
        """Open the queue; `close` closes it.

        Args:
            rag: an index and its models.
            metrics: where to count.
            batch: answers decoded at once.
            waiting: requests that may wait; further ones are refused.
            time_limit: seconds from a request to its whole answer.
        """
        self.rag, self.metrics, self.time_limit = rag, metrics, time_limit
        self.queue = QuestionQueue(rag, batch=batch, waiting=waiting)
        self._threads = CapacityLimiter(self.queue.capacity)
        metrics.gauge("ragx_answers_running", "Questions being answered.", lambda: self.queue.running)
        metrics.gauge("ragx_answers_waiting", "Questions waiting for their turn.", lambda: self.queue.waiting)
        metrics.gauge("ragx_requests_admitted", "Requests in progress or waiting.", lambda: self.queue.admitted)

    def close(self) -> None:
        """Stop all answers."""
        self.queue.close()

    async def run(self, task: Callable[[], T]) -> T:
        """Run a short task in a thread.

        Raises:
            QueueFullError: too many requests are waiting.
        """
        with self.queue.place():
            return await to_thread.run_sync(task, limiter=self._threads)

    async def answer(
        self, question: str, is_disconnected: Callable[[], Awaitable[bool]], **options: Any
    ) -> AsyncIterator[str | Answer]:
        """Yield the pieces of the answer as they come, then the answer.

        Args:
            question: the question.
            is_disconnected: whether the client has left.
            options: passed to `RAG.ask`.

        Raises:
            QueueFullError: too many requests are waiting.
            ApiError: 503, the answer took too long or the server is stopping.
            ClientDisconnected: the client has left.
            RagxError: as `RAG.ask`.
        """

        def ask(*, on_text: Callable[[str], None], cancel: threading.Event) -> Answer:
            answer = self.rag.ask(question, on_text=on_text, cancel=cancel, **options)
            self.metrics.answered(answer)  # here, because a client that has left sees no answer
            return answer

        begin = last_check = time.monotonic()
        has_text = False
        with closing(self.queue.stream(ask, threading.Event())) as events:
            while (event := await to_thread.run_sync(partial(next, events, None), limiter=self._threads)) is not None:
                now = time.monotonic()
                if now - begin > self.time_limit:
                    raise ApiError(503, f"no whole answer within {self.time_limit:g} seconds", code="time_limit")
                if now - last_check > BEAT:
                    last_check = now
                    if await is_disconnected():
                        raise ClientDisconnected
                if isinstance(event, Answer):
                    if event.finish == "cancelled":
                        break
                    yield event
                    return
                if isinstance(event, str) and event:
                    if not has_text:
                        self.metrics.first_token.observe(now - begin)
                    has_text = True
                    yield event
        raise ApiError(503, "the server is stopping")
