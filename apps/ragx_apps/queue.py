"""The queue in front of one model: a batch of questions is answered at once, a bounded number wait their turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from ragx.errors import RagxError
from ragx.rag import RAG
from ragx.types import Answer
from ragx.util.device import trim_memory

BEAT = 0.2
"""Seconds after which a stream yields even if nothing is new, so that its consumer can check whether to leave."""
GRACE = 0.4
"""Seconds a cancelled answer has to return its text so far; one whose passages are still being encoded needs longer."""


class QueueFullError(RagxError):
    """No more questions can wait."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many questions are waiting; try again later")
        self.retry_after = retry_after
        """Seconds a typical question takes."""


@dataclass(frozen=True)
class Waiting:
    """A question's turn has not come yet."""

    ahead: int
    """Waiting questions before it."""


class Ask(Protocol):
    """Answers one question, as `RAG.ask` with everything but these two arguments bound."""

    def __call__(self, *, on_text: Callable[[str], None], cancel: threading.Event) -> Answer: ...


Event = str | Answer | Waiting
Events = SimpleQueue[Event | Exception | None]
"""The last one is an answer, an exception, or None where the question was cancelled before its turn."""


class QuestionQueue:
    """Answers up to `batch` questions at once, first come, first served. Safe to share between threads."""

    def __init__(self, rag: RAG, *, batch: int = 8, waiting: int = 32) -> None:
        """Start the threads; `close` stops them.

        Args:
            rag: answers the questions.
            batch: questions answered at once, unless the model cannot; each holds its passages in memory.
            waiting: questions that may wait for a place in the batch; further ones raise `QueueFullError`.
        """
        self.batch = next(iter(rag.readers.values())).reserve(batch)  # of all readers
        self.capacity = self.batch + waiting
        self._threads = ThreadPoolExecutor(self.batch, "ragx-answer")
        self._lock = threading.Lock()
        self._admitted = 0
        self._waiting: list[Events] = []
        self._cancels: list[threading.Event] = []
        self._typical_seconds = 1.0

    @property
    def admitted(self) -> int:
        """Questions and other tasks that are in progress or waiting."""
        return self._admitted

    @property
    def waiting(self) -> int:
        """Questions whose turn has not come yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Questions being answered."""
        return len(self._cancels) - len(self._waiting)

    def stream(self, ask: Ask, cancel: threading.Event) -> Generator[Event, None, None]:
        """Yield `Waiting` until the question's turn comes, then pieces of text (some of them empty), then the answer.

        Args:
            ask: answers the question, in another thread.
            cancel: set it to stop the answer: the iterator ends within a second, with the answer so far or without
                one. Closing the iterator early sets it.

        Raises:
            QueueFullError: no more questions can wait.
            Exception: whatever `ask` raises.
        """
        events: Events = SimpleQueue()
        future = self._submit(ask, events, cancel)
        over = False
        try:
            while not over:
                stopped = cancel.is_set()
                if stopped:
                    future.cancel()  # if it has not begun
                try:
                    event = events.get(timeout=GRACE if stopped else BEAT)
                except Empty:
                    if stopped:
                        return
                    yield self._status(events)
                    continue
                over = not isinstance(event, str)
                if event is None:
                    return
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            if not over:
                cancel.set()
                future.cancel()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the `capacity` places during a task that is not a question, such as a search.

        Raises:
            QueueFullError: all places are taken.
        """
        self._enter()
        begin = time.monotonic()
        try:
            yield
        finally:
            self._leave(begin)

    def wait_for_running(self) -> None:
        """Return once all questions that have been asked so far are answered or cancelled."""
        with self._lock:
            asked = {*self._cancels}
        while asked:
            time.sleep(BEAT)
            with self._lock:
                asked &= {*self._cancels}

    def close(self) -> None:
        """Stop every answer where it is; questions that wait, and later ones, get none."""
        self._threads.shutdown(wait=False, cancel_futures=True)  # before the running ones end, or the next would begin
        for cancel in [*self._cancels]:
            cancel.set()
        self._threads.shutdown()

    def _submit(self, ask: Ask, events: Events, cancel: threading.Event) -> Future[None]:
        def answer() -> None:
            with self._lock:
                self._waiting.remove(events)
            try:
                events.put(ask(on_text=events.put, cancel=cancel))
            except Exception as error:  # raised to the stream's consumer
                events.put(error)

        def done(future: Future[None]) -> None:
            if future.cancelled():
                events.put(None)
            with self._lock:
                if events in self._waiting:
                    self._waiting.remove(events)
                self._cancels.remove(cancel)
            self._leave(begin)

        self._enter()
        begin = time.monotonic()
        with self._lock:
            self._waiting.append(events)
            self._cancels.append(cancel)
        try:
            future = self._threads.submit(answer)
        except RuntimeError:  # closed
            future = Future()
            future.cancel()
        future.add_done_callback(done)
        return future

    def _status(self, events: Events) -> Event:
        with self._lock:
            return Waiting(self._waiting.index(events)) if events in self._waiting else ""

    def _enter(self) -> None:
        with self._lock:
            if self._admitted >= self.capacity:
                raise QueueFullError(self._typical_seconds)
            self._admitted += 1

    def _leave(self, begin: float) -> None:
        with self._lock:
            self._admitted -= 1
            self._typical_seconds += 0.1 * (time.monotonic() - begin - self._typical_seconds)
            is_idle = not self._admitted
        if is_idle:  # answers of all lengths leave holes in malloc's heaps
            trim_memory()
