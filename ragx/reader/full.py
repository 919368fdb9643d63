"""The full reader: the plain decoder with as many passages in its prompt as its window holds."""

from __future__ import annotations

from collections.abc import Sequence

from ragx.config import SamplingParams
from ragx.reader.base import DecoderReader, PreparedPrompt
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage


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
    ) -> PreparedPrompt:
        del prompt_passages, scores  # every passage goes into the prompt
        prompt, notes = self._prompt(question, passages, sampling, history, task)
        return PreparedPrompt(prompt, None, notes)


READER = FullReader
