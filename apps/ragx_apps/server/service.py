"""What the routes call: questions and other tasks within time limits, for clients that may disconnect."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from ragx.config import SamplingParams
from ragx.rag import RAG
from ragx.reader.base import DecoderReader, Reader
from ragx.retrieval.rerankers import Reranker
from ragx.types import Answer, ReaderName
from ragx_apps.queue import BEAT, QuestionQueue
from ragx_apps.server.errors import ApiError
from ragx_apps.server.front_ends import source_list
from ragx_apps.server.logs import log, request_id
from ragx_apps.server.metrics import Metrics

T = TypeVar("T")


class ClientDisconnected(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """Indexes and the models that read them, for many clients."""

    def __init__(
        self,
        rag: RAG,
        metrics: Metrics,
        *,
        indexes: Mapping[str, RAG] | None = None,
        batch: int = 8,
        waiting: int = 32,
        time_limit: float = 300,
        append_sources: bool = False,
    ) -> None:
        """Open the queue; `close` closes it.

        Args:
            rag: an index and its models.
            metrics: where to count.
            indexes: this index and further ones by name, with the same models; None: clients name none.
            batch: answers decoded at once.
            waiting: requests that may wait; further ones are refused.
            time_limit: seconds from a request to its whole answer.
            append_sources: write `[1]` after what a citation supports, and end the text with a list of them, unless it
                is JSON by a schema.
        """
        self.append_sources = append_sources
        self.rag, self.indexes = rag, dict(indexes or {})
        self.without_index = RAG(None, rag.readers)
        """The same models, for what no index has to do with."""
        self.metrics, self.time_limit = metrics, time_limit
        self.queue = QuestionQueue(rag, batch=batch, waiting=waiting)
        self._threads = CapacityLimiter(self.queue.capacity)
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.gauge("ragx_answers_running", "Questions being answered.", lambda: self.queue.running)
        metrics.gauge("ragx_answers_waiting", "Questions waiting for their turn.", lambda: self.queue.waiting)
        metrics.gauge("ragx_requests_admitted", "Requests in progress or waiting.", lambda: self.queue.admitted)
        if self._batch is not None:
            metrics.gauge("ragx_batch_answers", "Answers being decoded together.", lambda: self._batch.running)
            metrics.total(
                "ragx_reused_prompt_tokens", "Prompt tokens that began an earlier prompt.", lambda: self._batch.reused
            )
        if self._store is not None:
            metrics.total("ragx_encoding_hits", "Passages whose encodings were stored.", lambda: self._store.stats.hits)
            metrics.total("ragx_encoding_misses", "Passages that had to be encoded.", lambda: self._store.stats.misses)

    @property
    def _batch(self) -> Any:
        """That of all readers; None if they decode elsewhere."""
        reader = next(iter(self.rag.readers.values()))
        return reader.batch if isinstance(reader, DecoderReader) else None

    @property
    def _store(self) -> Any:
        return getattr(self.rag.readers.get("cepe"), "store", None)

    def replace_readers(self, readers: dict[ReaderName, Reader], rerankers: Sequence[Reranker | None]) -> None:
        """Answer all further questions with other readers, and close these once none of their answers is left.

        `rerankers` are those of the indexes, in their order; one may compute its scores with a reader.
        """
        next(iter(readers.values())).reserve(self.queue.batch)
        rags = list(dict.fromkeys([self.rag, *self.indexes.values()]))
        before = self.rag.readers
        for rag, reranker in zip(rags, rerankers, strict=True):
            rag.readers, rag.reranker = readers, reranker
        self.without_index.readers = readers
        self.queue.wait_for_running()
        for reader in before.values():
            reader.close()

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

    async def answers(
        self, rag: RAG, question: str, n: int, is_disconnected: Callable[[], Awaitable[bool]], **options: Any
    ) -> AsyncIterator[tuple[int, str | Answer]]:
        """`n` answers to one question: the number of each with its pieces as they come, then the answer.

        A seed is that of the first answer; arguments and errors as `answer`.
        """
        if n == 1:
            async for event in self.answer(rag, question, is_disconnected, **options):
                yield 0, event
            return
        events: asyncio.Queue[tuple[int, str | Answer | Exception]] = asyncio.Queue()
        over = False

        async def nobody_waits() -> bool:
            return over or await is_disconnected()

        async def follow(number: int, sampling: SamplingParams) -> None:
            try:
                seed = None if sampling.seed is None else sampling.seed + number
                chosen = {**options, "sampling": sampling.model_copy(update={"seed": seed})}
                async for event in self.answer(rag, question, nobody_waits, **chosen):
                    events.put_nowait((number, event))
            except Exception as error:  # raised to the consumer
                events.put_nowait((number, error))

        for number in range(n):
            task = asyncio.create_task(follow(number, options["sampling"]))
            self._tasks.add(task)  # the event loop keeps none alive
            task.add_done_callback(self._tasks.discard)
        left = n
        try:
            while left:
                number, came = await events.get()
                if isinstance(came, Exception):
                    raise came
                left -= isinstance(came, Answer)
                yield number, came
        finally:
            over = True  # the others end at their next check

    async def answer(
        self, rag: RAG, question: str, is_disconnected: Callable[[], Awaitable[bool]], **options: Any
    ) -> AsyncIterator[str | Answer]:
        """Yield the pieces of the answer as they come, then the answer.

        Args:
            rag: one of the indexes.
            question: the question.
            is_disconnected: whether the client has left.
            options: passed to `RAG.ask`.

        Raises:
            QueueFullError: too many requests are waiting.
            ApiError: 503, the answer took too long or the server is stopping.
            ClientDisconnected: the client has left.
            RagxError: as `RAG.ask`.
        """
        begin = last_check = time.monotonic()
        request = request_id.get()
        with_sources = self.append_sources and not options["sampling"].json_schema

        def ask(*, on_text: Callable[[str], None], cancel: threading.Event) -> Answer:
            queued = time.monotonic() - begin
            self.metrics.queued.observe(queued)
            answer = rag.ask(question, marks=with_sources, on_text=on_text, cancel=cancel, **options)
            self.metrics.answered(answer)  # here, because a client that has left sees no answer
            tokens = {"prompt_tokens": answer.prompt_tokens, "answer_tokens": answer.answer_tokens}
            seconds = {name: round(value, 4) for name, value in asdict(answer.timings).items()}
            log("answer", request_id=request, finish=answer.finish, queue=round(queued, 4), **tokens, **seconds)
            return answer

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
                    if with_sources and (tail := source_list(event)):
                        yield tail
                        event = replace(event, text=event.marked_text + tail)
                    yield event
                    return
                if isinstance(event, str) and event:
                    if not has_text:
                        self.metrics.first_token.observe(now - begin)
                    has_text = True
                    yield event
        raise ApiError(503, "the server is stopping")
