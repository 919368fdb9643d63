"""The CEPE reader: all passages are encoded and attended to; the best also stand in the prompt."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from ragx.config import SamplingParams
from ragx.reader.base import DecoderReader, PreparedPrompt
from ragx.reader.conversation import turns
from ragx.reader.examples import as_turns, encoded_text
from ragx.reader.prompt import passage_text
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage

if TYPE_CHECKING:
    import numpy as np

    from ragx.cepe.store import EncodeBatches, FillResult, OnEncoded, PassageStore
    from ragx.engine.backend import ReaderModel
    from ragx.engine.batching import BatchDecoder
    from ragx.retrieval.rerankers.late import Projection
    from ragx.util.tokenization import Tokenizer

TOKENIZED_AT_A_TIME = 256
"""Passages tokenized in one call."""
CHUNK_TOKENS = 256
"""Tokens of a document or an earlier turn that the encoder reads at once (paper section 3)."""
PROMPT_EXAMPLES = 2
"""Demonstrations, the last ones, that stand in the prompt (paper section 4.3)."""
UNTRAINED = "this model has no trained CEPE reader: it answers from its prompt's passages alone"


class CepeReader(DecoderReader):
    """Reads K passages through the encoder and the first `prompt_passages` in the prompt (paper section 4.2)."""

    def __init__(
        self,
        model: ReaderModel,
        tokenizer: Tokenizer,
        store: PassageStore | None = None,
        batch: BatchDecoder | None = None,
        name: str = "",
        within: float = math.inf,
    ) -> None:
        """`store` keeps encodings on disk; without one, every question encodes its passages. `name`: of the model."""
        super().__init__(model, tokenizer, batch)
        self.within = within
        self.store, self._name = store, name
        self._encoding = threading.Lock()  # concurrent questions find on disk what the first one encoded

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
        shown = replace(task, examples=task.examples[-PROMPT_EXAMPLES:])
        prompt, notes = self._prompt(question, passages[:prompt_passages], sampling, history, shown)
        if not self.model.is_trained:  # its cross-attention would add nothing
            notes.append(UNTRAINED)
            return PreparedPrompt(prompt, None, notes)
        first = prompt.passages if task.is_document else 0
        ids = self.encoder_ids(passages[first:])
        window = self.window
        long = sum(len(passage) > window for passage in ids)
        if long:
            notes.append(f"{long} passages are longer than the encoder's window of {window} tokens and were cut")
        ids = [passage[:window] for passage in ids]
        said = [*as_turns(task.examples), *turns(history)]
        ids += self._turn_ids(said[: len(said) - prompt.turns])
        with self._encoding:
            context = self.model.encode_passages(ids, self.store, on_encoded)
        if prompt.passages:
            context.gain = self.model.prompted_gain
        if self.model.cross_attend == "question":
            context.attend_from = prompt.question_start
        return PreparedPrompt(prompt, context, notes, first_encoded=first)

    def encoded_limit(self) -> int | None:
        return self.model.encoded_limit if self.model.is_trained else None

    def close(self) -> None:
        """Stop decoding and close the store."""
        super().close()
        if self.store is not None:
            self.store.close()

    def fingerprint(self) -> str:
        changes_answers = self.store is not None and self.store.format == "int8"
        return super().fingerprint() + (" int8 encodings" if changes_answers else "")

    def encode_ahead(
        self, passages: Iterable[Passage], on_progress: Callable[[int], object], encode: EncodeBatches | None = None
    ) -> FillResult:
        """Encode the passages whose encodings are not on disk yet, and store them.

        Args:
            passages: any number; consumed lazily.
            on_progress: called with the number of passages just done.
            encode: encodes batches; None: this reader's model.

        Raises:
            ValueError: this reader keeps no encodings.
        """
        from ragx.cepe.store import each_batch

        if self.store is None:
            raise ValueError("a reader without a store keeps no encodings")

        store = self.store

        def ids() -> Iterator[list[int]]:
            rest = iter(passages)
            while batch := list(islice(rest, TOKENIZED_AT_A_TIME)):
                yield from (passage[: self.window] for passage in self.encoder_ids(batch))

        return store.fill(
            ids(), encode or each_batch(lambda batch: self.model.encode_rows(batch, store.format)), on_progress
        )

    @cached_property
    def projection(self) -> Projection:
        """What late interaction over this reader's encodings needs.

        Raises:
            ModelError: the model has no projection, or one of another encoder.
        """
        from ragx import models
        from ragx.retrieval.rerankers.late import load_projection

        return load_projection(models.resolve(self._name), self._name, self)

    def encode_text(self, text: str) -> np.ndarray:
        """Φ of a text that is not kept on disk, such as a question: (L, E) float32."""
        (ids,) = self.tokenizer.plain_ids([text])
        with self._encoding:
            return self.model.encode_rows([ids[: self.window]], "bfloat16").to_float32()

    def encode_all(self, passages: Sequence[Passage]) -> tuple[np.ndarray, list[int]]:
        """Φ of passages, read from disk or computed and kept: (M, E) float32, and the number of each one's tokens."""
        ids = [passage[: self.window] for passage in self.encoder_ids(passages)]
        with self._encoding:
            rows = (
                self.model.encode_rows(ids, "bfloat16")
                if (store := self.store) is None
                else store.encode(ids, lambda missing: self.model.encode_rows(missing, store.format))
            )
        return rows.to_float32(), [len(passage) for passage in ids]

    @property
    def window(self) -> int:
        """Maximum number of tokens of a passage that the encoder reads."""
        return self.model.encoder_window

    def encoder_ids(self, passages: Sequence[Passage]) -> list[list[int]]:
        """Token ids of each passage, title and text, before truncation to the encoder's window."""
        return self.tokenizer.plain_ids([passage_text(passage) for passage in passages])

    def _turn_ids(self, said: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Token ids of turns that are not in the prompt: each a chunk, or several."""
        size = min(CHUNK_TOKENS, self.window)
        ids = self.tokenizer.plain_ids([encoded_text(turn) for turn in said])
        return [turn[start : start + size] for turn in ids for start in range(0, len(turn), size)]


READER = CepeReader
