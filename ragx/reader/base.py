"""One interface for every way of reading: passages and a question become a stream of text."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ragx.config import Settings
from ragx.errors import ConfigError
from ragx.reader.prompt import Prompt, build_prompt
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel
    from ragx.reader.batching import BatchDecoder
    from ragx.reader.decoding import AnswerStream


class Generation(Settings):
    """How the answer is decoded. The sampling settings matter where `temperature` is above 0."""

    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    top_k: int = Field(default=0, ge=0)
    """Sample from so many of the likeliest tokens; 0: all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Sample from tokens at least this share as likely as the likeliest."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens that were there before become less likely."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Makes sampling repeatable on one machine."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end the answer; they are not part of it."""

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken; so near 0, logits could not be divided by the temperature."""
        return self.temperature < 1e-5


@dataclass(frozen=True)
class Reading:
    """What a reader has prepared for one question."""

    prompt: Prompt
    context: Context | None
    notes: list[str] = field(default_factory=list)


class Reader(ABC):
    """A decoder and its way of reading passages. Every reader takes the same passages, question and decoder."""

    def __init__(self, model: CepeModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batch: BatchDecoder | None = None
        """Set where many ask at once: their answers are decoded together."""

    @abstractmethod
    def prepare(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        n_decoder: int,
        generation: Generation,
        history: Sequence[Message] = (),
    ) -> Reading:
        """Build the prompt and encode what is read outside of it. `passages` come best first.

        Raises:
            ConfigError: the question does not fit into the decoder's window.
        """

    def stream(self, reading: Reading, generation: Generation, cancel: threading.Event | None = None) -> AnswerStream:
        """Decode the answer; yields the text of each token as it comes, until the decoder ends its turn.

        Setting `cancel`, or closing the stream, ends it before the next token.
        """
        from ragx.reader.decoding import AnswerStream, generate

        tokens = self.batch.generate if self.batch is not None else partial(generate, self.model, self.tokenizer)
        ids = tokens(reading.prompt.ids, reading.context, generation, cancel or threading.Event())
        return AnswerStream(ids, self.model, self.tokenizer, generation)

    def _prompt(
        self, question: str, passages: Sequence[Passage], generation: Generation, history: Sequence[Message]
    ) -> tuple[Prompt, list[str]]:
        """The prompt, and a note when passages had to be left out of it."""
        window = self.model.config.max_position_embeddings
        room = window - generation.max_new_tokens
        if room <= 0:
            raise ConfigError(f"max_new_tokens must be below the decoder's window of {window} tokens")
        prompt = build_prompt(self.tokenizer, question, passages, max_tokens=room, history=history)
        if prompt.passages == len(passages):
            return prompt, []
        held = f"{prompt.passages} of the {len(passages)} passages" if prompt.passages else "none of the passages"
        return prompt, [f"the decoder's window of {window} tokens holds {held} meant for the prompt"]
