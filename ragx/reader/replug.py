"""The REPLUG reader: one prompt a passage; the distributions of the next token are mixed (Shi et al., NAACL 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.engine.mixture import Mixture, softmax_log_weights
from ragx.reader.base import DecoderReader, PreparedPrompt
from ragx.reader.prompt import Prompt
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from ragx.cepe.store import OnEncoded
    from ragx.engine.backend import ReaderModel
    from ragx.engine.batching import BatchDecoder
    from ragx.util.tokenization import Tokenizer


class ReplugReader(DecoderReader):
    """Weighs passages by the softmax of their search scores. `prompt_passages` does not limit it."""

    def __init__(
        self,
        model: ReaderModel,
        tokenizer: Tokenizer,
        batch: BatchDecoder | None = None,
        *,
        temperature: float = 1.0,
    ) -> None:
        """`temperature` divides the scores: τ, 1 in the paper."""
        super().__init__(model, tokenizer, batch)
        self.temperature = temperature

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
        del prompt_passages, on_encoded  # every passage has a prompt of its own
        rows = [self._prompt(question, [passage], sampling, history, task) for passage in passages]
        rows = rows or [self._prompt(question, [], sampling, history, task)]
        prompts = [prompt for prompt, _ in rows]
        mixture = Mixture(
            [len(prompt.ids) for prompt in prompts],
            softmax_log_weights(scores or [0.0] * len(rows), self.temperature),
        )
        ids = [token for prompt in prompts for token in prompt.ids]
        read = sum(prompt.passages for prompt in prompts)
        notes = list(dict.fromkeys(note for _, each in rows for note in each))
        return PreparedPrompt(Prompt(ids, read, len(ids)), None, notes, mixture)

    def room(self, prepared: PreparedPrompt) -> int:
        """Tokens that the longest of the prompts leaves the answer."""
        lengths = prepared.layout.lengths if isinstance(prepared.layout, Mixture) else [len(prepared.prompt.ids)]
        return self.model.window - max(lengths)


READER = ReplugReader
