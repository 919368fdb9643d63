"""The full reader: the plain decoder with every passage in its prompt, as many as its window holds."""

from __future__ import annotations

from collections.abc import Sequence

from ragx.config import SamplingParams
from ragx.reader.base import Reader, Reading
from ragx.types import Message, Passage


class FullReader(Reader):
    """The baseline every long-context method is compared with. `prompt_passages` does not limit it."""

    def prepare(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        prompt_passages: int,
        generation: SamplingParams,
        history: Sequence[Message] = (),
    ) -> Reading:
        del prompt_passages  # every passage goes into the prompt
        prompt, notes = self._prompt(question, passages, generation, history)
        return Reading(prompt, None, notes)
