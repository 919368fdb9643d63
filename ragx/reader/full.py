"""The full reader: the plain decoder with as many passages in its prompt as its window holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.reader.base import DecoderReader, PreparedPrompt
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from ragx.cepe.store import OnEncoded


class FullReader(DecoderReader):
    """The baseline for long-context methods. `prompt_passages` does not limit it."""

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
        prompt, notes = self._prompt(question, passages, sampling, history, task)
        return PreparedPrompt(prompt, None, notes)


READER = FullReader
