"""Continuous batching: one model decodes many answers together; each joins and leaves the batch between two steps.

transformers' continuous batching cannot pass per-request inputs, such as encoded passages, to the model. This loop can
and is kept minimal: it prefills one prompt at a time, in pieces, and after each piece decodes one token for every
running answer.
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
from transformers import DynamicCache

from ragx.config import SamplingParams
from ragx.engine.decoding import end_tokens
from ragx.engine.kv_cache import BatchCache
from ragx.engine.sampling import Sampler
from ragx.errors import ModelError

if TYPE_CHECKING:
    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel
    from ragx.util.tokenization import Tokenizer


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
    def is_abandoned(self) -> bool:
        """Whether the caller no longer waits for the answer."""
        return self.closed.is_set() or self.cancel.is_set()


class BatchDecoder:
    """Decodes up to `size` answers at once; further requests queue in order of arrival."""

    def __init__(self, model: CepeModel, tokenizer: Tokenizer, size: int = 8, *, prompt_piece: int = 256) -> None:
        """Start the decoding thread; `close` ends it.

        Args:
            model: the decoder.
            tokenizer: names the token that ends an answer.
            size: maximum number of answers decoded together (B).
            prompt_piece: tokens of a new prompt to prefill between two steps; limits how long running answers wait.

        Raises:
            ModelError: the decoder has a sliding window shorter than its context.
        """
        window = getattr(model.config, "sliding_window", None)
        if window and window < model.config.max_position_embeddings:
            raise ModelError(f"a decoder with a sliding window ({window} tokens) cannot decode in a batch")
        self.model, self.size, self.prompt_piece = model, size, prompt_piece
        self._ends = end_tokens(model, tokenizer)
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._prefilling: _Request | None = None
        self._running: list[_Request] = []  # in the order of the cache's rows
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ragx-batch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Number of answers being decoded, including one in prefill."""
        return len(self._running) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        """Number of answers that wait for room in the batch."""
        return len(self._waiting)

    def generate(
        self, prompt_ids: list[int], context: Context | None, sampling: SamplingParams, cancel: threading.Event
    ) -> Generator[int, None, None]:
        """Join the batch and yield the answer's tokens as they come.

        Closing the iterator, or setting `cancel`, removes the answer from the batch before the next step. Errors that
        concern this answer are raised here.
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
        """End every answer where it is, then the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        cache = BatchCache()
        with torch.inference_mode():
            while self._next():
                for request in [request for request in self._running if request.is_abandoned]:
                    self._remove(cache, request, None)
                if self._prefilling is not None:
                    self._prefill(cache, self._prefilling)
                if self._running:
                    self._step(cache)
        for request in [*self._running, *self._waiting, *([self._prefilling] if self._prefilling else [])]:
            request.tokens.put(None)

    def _next(self) -> bool:
        """Wait for work; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._running or self._prefilling or self._waiting)
            for request in [request for request in self._waiting if request.is_abandoned]:
                self._waiting.remove(request)
                request.tokens.put(None)
            if self._prefilling is None and self._waiting and len(self._running) < self.size:
                self._prefilling = self._waiting.popleft()
            return not self._closed

    def _prefill(self, cache: BatchCache, request: _Request) -> None:
        """Prefill the next piece of a prompt; after the last piece the request joins the batch with its first token."""
        if request.is_abandoned:
            self._prefilling = None
            request.tokens.put(None)
            return
        try:
            start = request.cache.get_seq_length()
            piece = request.prompt[start : start + self.prompt_piece]
            last = start + len(piece) == len(request.prompt)
            with _shares_paused(None if last else request.context):
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
            self._prefilling = None  # before the caller sees a token and may look at `running`
            self._append_token(cache, request, output.logits[:, -1])
        except Exception as error:  # raised in the caller; other answers continue
            request.tokens.put(error)
        request.cache = DynamicCache()
        self._prefilling = None

    def _step(self, cache: BatchCache) -> None:
        """Decode one token for every answer."""
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
                self._append_token(cache, request, logits[row : row + 1])
        except Exception as error:  # concerns the whole batch, such as exhausted memory
            for request in list(self._running):
                self._remove(cache, request, error)

    def _append_token(self, cache: BatchCache, request: _Request, logits: Tensor) -> None:
        """Sample the next token from logits (1, V); remove the request after its last token or an error."""
        try:
            token = request.sampler.choose(logits, [request.prompt, request.answer])
        except Exception as error:  # concerns this answer alone; the others continue
            self._remove(cache, request, error)
            return
        request.answer.append(token)
        request.tokens.put(token)
        if token in self._ends or len(request.answer) == request.sampling.max_new_tokens:
            self._remove(cache, request, None)

    def _remove(self, cache: BatchCache, request: _Request, outcome: Exception | None) -> None:
        row = self._running.index(request)
        cache.leave(row)
        self._running[row] = self._running[-1]  # mirrors the cache
        self._running.pop()
        request.tokens.put(outcome)


@contextlib.contextmanager
def _shares_paused(context: Context | None) -> Iterator[None]:
    """Record no attention shares meanwhile: of a prompt, only the last token's attention counts."""
    record_attention = context is not None and context.record_attention
    if context is not None:
        context.record_attention = False
    try:
        yield
    finally:
        if context is not None:
            context.record_attention = record_attention
