"""Token-by-token decoding with transformers' `generate`, as an iterator of text."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import GenerationConfig, PreTrainedTokenizerFast, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from ragx.reader.base import Generation

if TYPE_CHECKING:
    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel


def stream_text(
    model: CepeModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt_ids: list[int],
    context: Context | None,
    generation: Generation,
) -> Iterator[str]:
    """Generate in a thread of its own; yield the text of each token.

    A token's text is empty while a character is incomplete or a stop string may have begun; it comes with a later one.

    Closing the iterator stops the generation before its next token. An error in the thread is raised here.
    """
    tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def generate() -> None:
        try:
            ids = torch.tensor([prompt_ids], device=model.device)  # (1, N)
            seeded = contextlib.nullcontext() if generation.seed is None else torch.random.fork_rng()
            with torch.inference_mode(), seeded:
                if generation.seed is not None:
                    torch.manual_seed(generation.seed)
                model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    context=context,
                    generation_config=_generation_config(model, tokenizer, generation),
                    streamer=_Streamer(tokens),
                    stopping_criteria=StoppingCriteriaList([_StopWhen(stop)]),
                )
            tokens.put(None)
        except BaseException as error:  # handed to the reading thread, which raises it
            tokens.put(error)

    thread = threading.Thread(target=generate, name="ragx-generate", daemon=True)
    thread.start()
    decoder = DecodeStream(skip_special_tokens=True)
    held = ""
    try:
        while (token := tokens.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            held += decoder.step(tokenizer.backend_tokenizer, token) or ""
            end = min((at for string in generation.stop if (at := held.find(string)) >= 0), default=None)
            if end is not None:
                yield held[:end]
                return
            ready = len(held) - _begun(held, generation.stop)
            yield held[:ready]
            held = held[ready:]
        if held:
            yield held
    finally:
        stop.set()
        thread.join()


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` with which a stop string begins."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    return next(
        (n for n in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0
    )


def _generation_config(
    model: CepeModel, tokenizer: PreTrainedTokenizerFast, generation: Generation
) -> GenerationConfig:
    """Stops at the model's own end tokens and at the chat template's end of turn (the tokenizer's eos)."""
    ends = model.generation_config.eos_token_id
    stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    sampling: dict[str, Any] = {}
    if generation.temperature > 0:
        sampling = {"do_sample": True, **generation.model_dump(include={"temperature", "top_p", "top_k"})}
        sampling["min_p"] = generation.min_p or None
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0)
    return GenerationConfig(
        max_new_tokens=generation.max_new_tokens,
        repetition_penalty=generation.repetition_penalty,
        eos_token_id=sorted(stops) or None,
        pad_token_id=pad,
        **sampling,
    )


class _Streamer(BaseStreamer):
    """Puts each generated token on a queue; `generate` hands over the prompt first."""

    def __init__(self, tokens: queue.SimpleQueue[Any]) -> None:
        self.tokens, self.prompt_seen = tokens, False

    def put(self, value: torch.Tensor) -> None:
        if self.prompt_seen:
            self.tokens.put(int(value.item()))
        self.prompt_seen = True

    def end(self) -> None:
        """The thread says so itself once `generate` has returned."""


class _StopWhen(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), dtype=torch.bool, device=input_ids.device)
