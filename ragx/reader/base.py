"""Reader: the interface that turns passages and a question into a stream of text."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.errors import ConfigError
from ragx.reader.prompt import Prompt, build_prompt
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel
    from ragx.engine.batching import BatchDecoder
    from ragx.engine.decoding import AnswerStream


@dataclass(frozen=True)
class PreparedPrompt:
    """What a reader decodes from: the prompt, and the encoded passages it attends to."""

    prompt: Prompt
    context: Context | None
    notes: list[str] = field(default_factory=list)


class Reader(ABC):
    """Reads passages with a decoder. All readers accept the same passages, questions and decoders."""

    def __init__(self, model: CepeModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batch: BatchDecoder | None = None
        """Decodes concurrent answers together; None: each answer is decoded alone."""

    def close(self) -> None:
        """Stop decoding; the reader cannot be used afterwards."""
        if self.batch is not None:
            self.batch.close()

    @abstractmethod
    def prepare(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        prompt_passages: int,
        sampling: SamplingParams,
        history: Sequence[Message] = (),
    ) -> PreparedPrompt:
        """Build the prompt and encode the passages to attend to. `passages` come best first.

        Raises:
            ConfigError: the question does not fit into the decoder's window.
        """

    def stream(
        self, prepared: PreparedPrompt, sampling: SamplingParams, cancel: threading.Event | None = None
    ) -> AnswerStream:
        """Decode the answer; yields the text of each token until the answer ends.

        Setting `cancel`, or closing the stream, ends it before the next token.
        """
        from ragx.engine.decoding import AnswerStream, generate

        tokens = self.batch.generate if self.batch is not None else partial(generate, self.model, self.tokenizer)
        ids = tokens(prepared.prompt.ids, prepared.context, sampling, cancel or threading.Event())
        return AnswerStream(ids, self.model, self.tokenizer, sampling)

    def decode(self, prepared: PreparedPrompt, sampling: SamplingParams) -> str:
        """Decode the whole answer; its text without surrounding white space."""
        return "".join(self.stream(prepared, sampling)).strip()

    def _prompt(
        self, question: str, passages: Sequence[Passage], sampling: SamplingParams, history: Sequence[Message]
    ) -> tuple[Prompt, list[str]]:
        """The prompt, and a note if passages were left out of it."""
        window = self.model.config.max_position_embeddings
        room = window - sampling.max_new_tokens
        if room <= 0:
            raise ConfigError(f"max_new_tokens must be below the decoder's window of {window} tokens")
        prompt = build_prompt(self.tokenizer, question, passages, max_tokens=room, history=history)
        if prompt.passages == len(passages):
            return prompt, []
        count = f"{prompt.passages} of the {len(passages)} passages" if prompt.passages else "none of the passages"
        return prompt, [f"the decoder's window of {window} tokens holds {count} meant for the prompt"]
