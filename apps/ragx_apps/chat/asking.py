"""Many visitors at once: their answers are decoded together, so many at a time; the others wait their turn."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

from ragx.engine.batching import BatchDecoder
from ragx.errors import ModelError
from ragx.rag import RAG
from ragx.types import Answer

AT_ONCE = 8
"""Answers under way: each holds in memory what it reads."""
BEAT = 0.5
"""Seconds after which a stream yields although there is nothing new, so that whoever reads it can leave."""
GRACE = 0.4
"""Seconds that a stopped answer has to say how far it came; one whose passages are still being encoded needs more."""


class Asking:
    """Answers for many visitors, by the readers of one model."""

    def __init__(self, rag: RAG) -> None:
        """Start the decoder; `close` ends it. The readers of `rag` decode in one batch from now on.

        A decoder that cannot, as its window slides, answers one question at a time.
        """
        reader = rag.readers["cepe"]
        self.decoder: BatchDecoder | None = None
        with contextlib.suppress(ModelError):
            self.decoder = BatchDecoder(reader.model, reader.tokenizer, AT_ONCE)
        for each in rag.readers.values():  # around the same model
            each.batch = self.decoder
        self._threads = ThreadPoolExecutor(AT_ONCE if self.decoder else 1, "ragx-chat")  # first come, first served
        self._under_way: set[threading.Event] = set()

    def stream(self, rag: RAG, question: str, cancel: threading.Event, **options: Any) -> Iterator[str | Answer | None]:
        """The pieces of an answer as they come, empty ones among them, then the answer; None while it waits its turn.

        Args:
            rag: an index, with the readers that were given here.
            question: the question.
            cancel: set it to stop the answer where it is: the iterator ends within a second, with the answer so far or
                without one. Closing the iterator before its end sets it.
            options: of `RAG.ask`.

        Raises:
            RagxError: as `RAG.ask`.
        """
        events: SimpleQueue[str | Answer | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                events.put(rag.ask(question, on_text=events.put, cancel=cancel, **options))
            except Exception as error:  # raised to whoever reads the answer
                events.put(error)

        self._under_way.add(cancel)
        try:
            answering = self._threads.submit(ask)
        except RuntimeError:  # closed meanwhile
            return
        over = False
        try:
            while not over:
                stopped = cancel.is_set()
                if stopped and answering.cancel():  # it had not begun
                    return
                try:
                    event = events.get(timeout=GRACE if stopped else BEAT)
                except Empty:
                    if stopped:
                        return
                    yield "" if answering.running() or answering.done() else None
                    continue
                over = not isinstance(event, str)
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self._under_way.discard(cancel)
            if not over:
                cancel.set()
                answering.cancel()

    def close(self) -> None:
        """End every answer where it is; nothing is asked after it."""
        self._threads.shutdown(wait=False, cancel_futures=True)  # or those that wait would begin
        for cancel in [*self._under_way]:
            cancel.set()
        if self.decoder is not None:
            self.decoder.close()
        self._threads.shutdown()
