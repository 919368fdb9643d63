"""Reader: the interface that turns passages and a question into a stream of text."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.engine.backend import decoder_of
from ragx.engine.batching import BatchDecoder
from ragx.engine.decoding import AnswerStream
from ragx.reader.prompt import Prompt, build_prompt, count_question_tokens
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from ragx.engine.backend import ContextLike, ReaderModel
    from ragx.util.tokenization import Tokenizer

SHORTEST_ANSWER = 64
"""Tokens that even the longest question leaves the answer."""


@dataclass(frozen=True)
class PreparedPrompt:
    """What a reader decodes from: the prompt, and the encoded passages it attends to."""

    prompt: Prompt
    context: ContextLike | None
    notes: list[str] = field(default_factory=list)


class Reader(ABC):
    """Reads passages with a decoder. All readers accept the same passages, questions and decoders."""

    def __init__(self, model: ReaderModel, tokenizer: Tokenizer, batch: BatchDecoder | None = None) -> None:
        """`batch` decodes the answers of all readers that share it; None: this reader's, one after another."""
        self.model, self.tokenizer = model, tokenizer
        end_of_turn = tokenizer.eos_token_id
        self.ends = model.end_tokens | (set() if end_of_turn is None else {end_of_turn})
        """Tokens that end an answer: the model's own, and the chat template's end of turn (the tokenizer's eos)."""
        self.batch = batch or BatchDecoder(decoder_of(model), self.ends)

    def close(self) -> None:
        """Stop decoding; the reader cannot be used afterwards."""
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

        It has at most `sampling.max_new_tokens` tokens, and no more than the prompt leaves of the decoder's window.
        Setting `cancel`, or closing the stream, ends it before the next token.
        """
        most = min(sampling.max_new_tokens, self.model.window - len(prepared.prompt.ids))
        sampling = sampling.model_copy(update={"max_new_tokens": most})
        ids = self.batch.generate(prepared.prompt.ids, prepared.context, sampling, cancel or threading.Event())
        return AnswerStream(ids, self.ends, self.tokenizer, sampling)

    def decode(self, prepared: PreparedPrompt, sampling: SamplingParams) -> str:
        """Decode the whole answer; its text without surrounding white space."""
        return "".join(self.stream(prepared, sampling)).strip()

    def _prompt(
        self, question: str, passages: Sequence[Passage], sampling: SamplingParams, history: Sequence[Message]
    ) -> tuple[Prompt, list[str]]:
        """The prompt, and notes if passages were left out of it or it leaves less room than the answer may take.

        Passages leave the answer the tokens it may take, up to half of the window; a long question leaves it the rest.
        """
        window, wanted = self.model.window, sampling.max_new_tokens
        rest = window - count_question_tokens(self.tokenizer, question, history)
        answer = min(wanted, max(min(window // 2, rest), SHORTEST_ANSWER))
        prompt = build_prompt(self.tokenizer, question, passages, max_tokens=window - answer, history=history)
        notes = []
        if prompt.passages < len(passages):
            count = f"{prompt.passages} of the {len(passages)} passages" if prompt.passages else "none of the passages"
            notes.append(f"the decoder's window of {window} tokens holds {count} meant for the prompt")
        if wanted > (left := window - len(prompt.ids)):
            notes.append(f"the decoder's window of {window} tokens leaves {left} for the answer")
        return prompt, notes
