"""Token-by-token decoding of one answer with transformers' `generate`, and tokens to text."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from ragx.config import SamplingParams
from ragx.engine.sampling import Sampler
from ragx.types import Finish

if TYPE_CHECKING:
    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel
    from ragx.util.tokenization import Tokenizer


class AnswerStream(Iterator[str]):
    """The text of an answer, token by token, up to its end token, a stop string or the maximum length.

    A token's text is empty while a character, or what may be a stop string, is incomplete; a later token brings it.
    """

    def __init__(
        self,
        ids: Generator[int, None, None],
        model: CepeModel,
        tokenizer: Tokenizer,
        sampling: SamplingParams,
    ) -> None:
        """`ids` yields the answer's tokens as they are decoded; it is closed if the answer ends early."""
        self.tokens = 0
        """Number of tokens decoded so far."""
        self.finish: Finish = "cancelled"
        """Why the answer ended."""
        self._ids, self._tokenizer, self._sampling = ids, tokenizer.backend, sampling
        self._ends = end_tokens(model, tokenizer)
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._pending = ""
        self._finished = False

    def __next__(self) -> str:
        if self._finished:
            raise StopIteration
        token = next(self._ids, None)
        if token is None:
            self._finished = True
            return self._rest()
        self.tokens += 1
        if token in self._ends:
            self.finish = "stop"
        elif self.tokens == self._sampling.max_new_tokens:
            self.finish = "length"
        stops = self._sampling.stop
        self._pending += self._decoder.step(self._tokenizer, token) or ""
        end = min((at for string in stops if (at := self._pending.find(string)) >= 0), default=None)
        if end is not None:
            self.close()
            self.finish = "stop"
            return self._pending[:end]
        ready = len(self._pending) - _stop_prefix(self._pending, stops)
        piece, self._pending = self._pending[:ready], self._pending[ready:]
        return piece

    def close(self) -> None:
        """End the answer; nothing more is decoded."""
        self._finished = True
        self._ids.close()

    def _rest(self) -> str:
        if not self._pending:
            raise StopIteration
        return self._pending


def generate(
    model: CepeModel,
    tokenizer: Tokenizer,
    prompt_ids: list[int],
    context: Context | None,
    sampling: SamplingParams,
    cancel: threading.Event,
) -> Generator[int, None, None]:
    """Decode one answer with transformers' `generate` in a separate thread; yields its tokens.

    Closing the iterator, or setting `cancel`, stops it before its next token. Errors in the thread are raised here.
    """
    tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    closed = threading.Event()

    def run() -> None:
        try:
            ids = torch.tensor([prompt_ids], device=model.device)  # (1, N)
            with torch.inference_mode():
                model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    context=context,
                    generation_config=_generation_config(model, tokenizer, sampling),
                    logits_processor=LogitsProcessorList([_SamplerProcessor(Sampler(sampling))]),
                    streamer=_TokenQueue(tokens),
                    stopping_criteria=StoppingCriteriaList([_StopOnEvent(closed, cancel)]),
                )
            tokens.put(None)
        except BaseException as error:  # handed to the reading thread, which raises it
            tokens.put(error)

    thread = threading.Thread(target=run, name="ragx-generate", daemon=True)
    thread.start()
    try:
        while (token := tokens.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            yield token
    finally:
        closed.set()
        thread.join()


def end_tokens(model: CepeModel, tokenizer: Tokenizer) -> set[int]:
    """Tokens that end an answer: the model's own, and the chat template's end of turn (the tokenizer's eos)."""
    ends = model.generation_config.eos_token_id
    return {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}


def _stop_prefix(text: str, stops: Sequence[str]) -> int:
    """Length of the longest suffix of `text` that is a prefix of a stop string."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    return next(
        (n for n in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0
    )


def _generation_config(model: CepeModel, tokenizer: Tokenizer, sampling: SamplingParams) -> GenerationConfig:
    """Greedy and without a penalty: `_SamplerProcessor` applies the sampling parameters."""
    stops = end_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0)
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(stops) or None,
        pad_token_id=pad,
    )


class _SamplerProcessor(LogitsProcessor):
    """Masks all tokens but the sampler's choice: `generate` itself draws from the process-wide random generator."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = self.sampler.choose(scores[0].float().cpu().numpy(), input_ids.tolist())
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, token] = 0
        return chosen


class _TokenQueue(BaseStreamer):
    """Puts each generated token on a queue; `generate` passes the prompt first."""

    def __init__(self, tokens: queue.SimpleQueue[Any]) -> None:
        self.tokens, self.prompt_seen = tokens, False

    def put(self, value: torch.Tensor) -> None:
        if self.prompt_seen:
            self.tokens.put(int(value.item()))
        self.prompt_seen = True

    def end(self) -> None:
        """Do nothing: the thread marks the end once `generate` has returned."""


class _StopOnEvent(StoppingCriteria):
    def __init__(self, *events: threading.Event) -> None:
        self.events = events

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        stop = any(event.is_set() for event in self.events)
        return torch.full((input_ids.shape[0],), stop, dtype=torch.bool, device=input_ids.device)
