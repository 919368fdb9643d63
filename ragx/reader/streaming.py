"""The StreamingLLM reader: all passages in a prompt of any length; the decoder keeps its first and last tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ragx.config import SamplingParams
from ragx.reader.base import DecoderReader, PreparedPrompt
from ragx.reader.prompt import build_prompt
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from ragx.cepe.store import OnEncoded
    from ragx.engine.backend import ReaderModel
    from ragx.engine.batching import BatchDecoder
    from ragx.util.tokenization import Tokenizer

SINKS = 4
ANY_LENGTH = 2**31
"""Tokens, more than any prompt has."""


class StreamingReader(DecoderReader):
    """Keeps a cache of constant size (Xiao et al., ICLR 2024). `prompt_passages` does not limit it."""

    torch_only: ClassVar[bool] = True

    def __init__(
        self,
        model: ReaderModel,
        tokenizer: Tokenizer,
        batch: BatchDecoder | None = None,
        *,
        sinks: int = SINKS,
        recent: int | None = None,
        stride: int | None = None,
    ) -> None:
        """Half of the decoder's window is kept and half is read at a time, as in the CEPE paper.

        Args:
            model: the decoder, on the torch backend.
            tokenizer: the decoder's.
            batch: as `DecoderReader`.
            sinks: first tokens that stay in the cache.
            recent: last tokens that stay; None: with the sinks, half of the decoder's window.
            stride: tokens that are read before any are dropped; None: half of the window.
        """
        from ragx.engine.attention_sinks import AttentionSinks

        super().__init__(model, tokenizer, batch)
        half = model.window // 2
        self.layout = AttentionSinks(sinks, half - sinks if recent is None else recent, stride or half)

    def prepare(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        prompt_passages: int,
        sampling: SamplingParams,
        history: Sequence[Message] = (),
        scores: Sequence[float] | None = None,
        task: Task = ANSWER,
        on_encoded: OnEncoded | None = None,
    ) -> PreparedPrompt:
        del prompt_passages, scores, on_encoded  # every passage goes into the prompt
        prompt = build_prompt(self.tokenizer, question, passages, max_tokens=ANY_LENGTH, history=history, task=task)
        return PreparedPrompt(prompt, None, [], self.layout)

    def room(self, prepared: PreparedPrompt) -> int:
        """Answers could go on for ever; they end at the length of the decoder's window."""
        return self.model.window


READER = StreamingReader
