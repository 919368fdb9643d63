"""Many answers decoded together by one model: each joins and leaves the batch at a step.

transformers' continuous batching passes nothing of a request to the model, so no passages either. This loop does, and
is otherwise the smallest that can: one prompt at a time is read in pieces, and after each piece every answer that is
under way grows by a token.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerFast

from ragx.config import SamplingParams
from ragx.engine.decoding import end_tokens
from ragx.engine.kv_cache import BatchCache
from ragx.engine.sampling import Sampler
from ragx.errors import ModelError

if TYPE_CHECKING:
    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel

PROMPT_PIECE = 256
"""Tokens of a new prompt read between two steps: the other answers wait for no longer."""


@dataclass(eq=False)
class _Request:
    prompt: list[int]
    context: Context | None
    sampling: SamplingParams
    cancel: threading.Event
    sampler: Sampler
    closed: threading.Event = field(default_factory=threading.Event)
    answer: list[int] = field(default_factory=list)
    tokens: SimpleQueue[int | Exception | None] = field(default_factory=SimpleQueue)
    cache: DynamicCache = field(default_factory=DynamicCache)
    """Keys and values of the prompt read so far."""

    @property
    def left(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.closed.is_set() or self.cancel.is_set()


class BatchDecoder:
    """Decodes up to `size` answers at once; more wait their turn, first come first served."""

    def __init__(self, model: CepeModel, tokenizer: PreTrainedTokenizerFast, size: int = 8) -> None:
        """Start the thread that decodes; `close` ends it.

        Raises:
            ModelError: the decoder looks back over a sliding window shorter than its context.
        """
        window = getattr(model.config, "sliding_window", None)
        if window and window < model.config.max_position_embeddings:
            raise ModelError(f"a decoder with a sliding window ({window} tokens) cannot decode in a batch")
        self.model, self.size = model, size
        self._ends = end_tokens(model, tokenizer)
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._reading: _Request | None = None
        self._running: list[_Request] = []  # in the order of the cache's rows
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ragx-batch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Answers being decoded, the one whose prompt is being read included."""
        return len(self._running) + (self._reading is not None)

    @property
    def waiting(self) -> int:
        """Answers that wait for room in the batch."""
        return len(self._waiting)

    def generate(
        self, prompt_ids: list[int], context: Context | None, sampling: SamplingParams, cancel: threading.Event
    ) -> Generator[int, None, None]:
        """Join the batch and yield the answer's tokens as they come.

        Closing the iterator, or setting `cancel`, leaves the batch before the next step. What goes wrong with this
        answer is raised here.
        """
        request = _Request(prompt_ids, context, sampling, cancel, Sampler(sampling, self.model.device))
        with self._changed:
            if self._closed:
                return
            self._waiting.append(request)
            self._changed.notify()
        try:
            while (token := request.tokens.get()) is not None:
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            request.closed.set()

    def close(self) -> None:
        """End every answer where it is, and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        cache = BatchCache()
        with torch.inference_mode():
            while self._next():
                for request in [request for request in self._running if request.left]:
                    self._leave(cache, request, None)
                if self._reading is not None:
                    self._read(cache, self._reading)
                if self._running:
                    self._step(cache)
        for request in [*self._running, *self._waiting, *([self._reading] if self._reading else [])]:
            request.tokens.put(None)

    def _next(self) -> bool:
        """Wait until there is something to do; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._running or self._reading or self._waiting)
            for request in [request for request in self._waiting if request.left]:
                self._waiting.remove(request)
                request.tokens.put(None)
            if self._reading is None and self._waiting and len(self._running) < self.size:
                self._reading = self._waiting.popleft()
            return not self._closed

    def _read(self, cache: BatchCache, request: _Request) -> None:
        """Read the next piece of a prompt; after the last one the request joins with its first token."""
        if request.left:
            self._reading = None
            request.tokens.put(None)
            return
        try:
            start = request.cache.get_seq_length()
            piece = request.prompt[start : start + PROMPT_PIECE]
            last = start + len(piece) == len(request.prompt)
            with _unwatched(None if last else request.context):
                output = self.model(
                    torch.tensor([piece], device=self.model.device),  # (1, N)
                    past_key_values=request.cache,
                    context=request.context,
                    use_cache=True,
                    logits_to_keep=1,
                )
            if not last:
                return
            cache.join(request.cache)
            self._running.append(request)
            self._reading = None  # before its first token is out: who has it may count
            self._take(cache, request, output.logits[:, -1])
        except Exception as error:  # raised where the answer is awaited; the others go on
            request.tokens.put(error)
        request.cache = DynamicCache()
        self._reading = None

    def _step(self, cache: BatchCache) -> None:
        """One token more for every answer."""
        requests = list(self._running)
        try:
            last = torch.tensor([[request.answer[-1]] for request in requests], device=self.model.device)  # (B, 1)
            contexts = [request.context for request in requests]
            positions, mask = cache.next_positions(self.model.device)
            logits = self.model(
                last,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                context=contexts if any(contexts) else None,
                use_cache=True,
            ).logits[:, -1]  # (B, V)
            cache.advance()
            for row, request in enumerate(requests):
                self._take(cache, request, logits[row : row + 1])
        except Exception as error:  # nobody's in particular, memory that ran out above all
            for request in list(self._running):
                self._leave(cache, request, error)

    def _take(self, cache: BatchCache, request: _Request, logits: Tensor) -> None:
        """Choose the next token from logits (1, V); the request leaves with its last, or where none can be chosen."""
        try:
            token = request.sampler.choose(logits, [request.prompt, request.answer])
        except Exception as error:  # its own settings': the others go on
            self._leave(cache, request, error)
            return
        request.answer.append(token)
        request.tokens.put(token)
        if token in self._ends or len(request.answer) == request.sampling.max_new_tokens:
            self._leave(cache, request, None)

    def _leave(self, cache: BatchCache, request: _Request, outcome: Exception | None) -> None:
        row = self._running.index(request)
        cache.leave(row)
        self._running[row] = self._running[-1]  # as the cache does
        self._running.pop()
        request.tokens.put(outcome)


@contextlib.contextmanager
def _unwatched(context: Context | None) -> Iterator[None]:
    """Of a prompt, only its last token's attention is noted: nothing of the pieces before the last."""
    watch = context is not None and context.watch
    if context is not None:
        context.watch = False
    try:
        yield
    finally:
        if context is not None:
            context.watch = watch
