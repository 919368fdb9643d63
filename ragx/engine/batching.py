"""The engine: one model decodes all answers; each joins and leaves the batch between two steps.

transformers' continuous batching cannot pass per-request inputs, such as encoded passages, to the model. This loop can
and is kept minimal: it prefills one prompt at a time, in pieces, and after each piece decodes one token for every
running answer. A single answer is a batch of one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Generator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from ragx.config import SamplingParams
from ragx.engine.backend import Batch, DecoderModel
from ragx.engine.sampling import Floats, Sampler

LONG_PIECE = 512
"""Tokens of a prompt that are prefilled at a time while nothing else is decoded."""


@dataclass(eq=False)
class _Request:
    prompt: list[int]
    context: Any
    sampling: SamplingParams
    cancel: threading.Event
    sampler: Sampler
    closed: threading.Event = field(default_factory=threading.Event)
    answer: list[int] = field(default_factory=list)
    tokens: SimpleQueue[int | Exception | None] = field(default_factory=SimpleQueue)
    sequence: Any = None
    """The decoder's state of the prompt read so far."""
    prefilled: int = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether the caller no longer waits for the answer."""
        return self.closed.is_set() or self.cancel.is_set()


class BatchDecoder:
    """Decodes up to `size` answers at once; further requests queue in order of arrival."""

    def __init__(self, decoder: DecoderModel, ends: Collection[int], size: int = 8, *, prompt_piece: int = 256) -> None:
        """A thread decodes while there are requests.

        Args:
            decoder: the model, on one of the backends.
            ends: tokens that end an answer.
            size: maximum number of answers decoded together (B), unless the decoder's `batch_limit` is lower.
            prompt_piece: tokens of a new prompt to prefill between two steps; limits how long running answers wait.
        """
        self.decoder, self.size, self.prompt_piece = decoder, min(size, decoder.batch_limit or size), prompt_piece
        self.reused = 0
        """Tokens of prompts that were not read again, because an earlier prompt began with them."""
        self._ends = ends
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._prefilling: _Request | None = None
        self._running: list[_Request] = []  # in the order of the batch's rows
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def running(self) -> int:
        """Number of answers being decoded, including one in prefill."""
        return len(self._running) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        """Number of answers that wait for room in the batch."""
        return len(self._waiting)

    def generate(
        self,
        prompt_ids: list[int],
        context: Any,
        sampling: SamplingParams,
        cancel: threading.Event,
        sampler: Sampler | None = None,
    ) -> Generator[int, None, None]:
        """Join the batch and yield the answer's tokens, which `sampler` chooses, as they come.

        Closing the iterator, or setting `cancel`, removes the answer from the batch before the next step. Errors that
        concern this answer are raised here.
        """
        request = _Request(prompt_ids, context, sampling, cancel, sampler or Sampler(sampling))
        with self._lock:
            if self._closed:
                return
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ragx-decode")
                self._thread.start()
        try:
            while (token := request.tokens.get()) is not None:
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            request.closed.set()

    def close(self) -> None:
        """End every answer where it is."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        batch = self.decoder.batch()
        try:
            while self._next():
                for request in [request for request in self._running if request.is_abandoned]:
                    self._remove(batch, request, None)
                if self._prefilling is not None:
                    self._prefill(batch, self._prefilling)
                if self._running:
                    self._step(batch)
        except Exception as error:  # outside any answer, such as no memory to remove a row; raised in every caller
            with self._lock:
                self._end_all(error)

    def _next(self) -> bool:
        """Take the next request from the queue; False, and the thread ends, if there is nothing to do.

        At the exit of the process, which waits for the thread, running answers end too. A daemon thread would abort the
        process if it were still in torch's destructors then.
        """
        with self._lock:
            if self._closed or not threading.main_thread().is_alive():
                self._end_all(None)
            for request in [request for request in self._waiting if request.is_abandoned]:
                self._waiting.remove(request)
                request.tokens.put(None)
            if self._prefilling is None and self._waiting and len(self._running) < self.size:
                self._prefilling = self._waiting.popleft()
            if not (self._running or self._prefilling):
                self._thread = None
                return False
            return True

    def _end_all(self, outcome: Exception | None) -> None:
        for request in [*self._running, *([self._prefilling] if self._prefilling else []), *self._waiting]:
            request.tokens.put(outcome)
        self._running, self._prefilling, self._thread = [], None, None
        self._waiting.clear()

    def _prefill(self, batch: Batch, request: _Request) -> None:
        """Prefill the next piece of a prompt; after the last piece the request joins the batch with its first token."""
        if request.is_abandoned:
            self._prefilling = None
            request.tokens.put(None)
            return
        try:
            if request.sequence is None:
                room = len(request.prompt) + request.sampling.max_new_tokens
                request.sequence = self.decoder.sequence(request.context, room)
                request.prefilled = self.decoder.reuse(request.sequence, request.prompt)
                self.reused += request.prefilled
            size = self.prompt_piece if self._running else max(self.prompt_piece, LONG_PIECE)
            piece = request.prompt[request.prefilled : request.prefilled + size]
            request.prefilled += len(piece)
            is_last = request.prefilled == len(request.prompt)
            logits = self.decoder.prefill(request.sequence, piece, is_last=is_last)
            if not is_last:
                return
            batch.join(request.sequence)
            self._running.append(request)
            self._prefilling = None  # before the caller sees a token and may look at `running`
            self._append_token(batch, request, logits)
        except Exception as error:  # raised in the caller; other answers continue
            request.tokens.put(error)
        request.sequence = None
        self._prefilling = None

    def _step(self, batch: Batch) -> None:
        """Decode one token for every answer."""
        requests = list(self._running)
        try:
            logits = batch.step([request.answer[-1] for request in requests])  # (B, V)
            for row, request in enumerate(requests):
                self._append_token(batch, request, logits[row])
        except Exception as error:  # concerns the whole batch, such as exhausted memory
            for request in list(self._running):
                self._remove(batch, request, error)

    def _append_token(self, batch: Batch, request: _Request, logits: Floats) -> None:
        """Choose the next token from logits (V,); remove the request after its last token or an error."""
        try:
            token = request.sampler.choose(logits, [request.prompt, request.answer])
        except Exception as error:  # concerns this answer alone; the others continue
            self._remove(batch, request, error)
            return
        request.answer.append(token)
        request.tokens.put(token)
        if token in self._ends or len(request.answer) == request.sampling.max_new_tokens:
            self._remove(batch, request, None)

    def _remove(self, batch: Batch, request: _Request, outcome: Exception | None) -> None:
        row = self._running.index(request)
        batch.leave(row)
        self._running[row] = self._running[-1]  # mirrors the batch
        self._running.pop()
        request.tokens.put(outcome)
