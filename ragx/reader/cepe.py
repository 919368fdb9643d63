"""The CEPE reader: the top passages stand in the prompt, all of them are encoded and attended to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragx.reader.base import Generation, Reader, Reading
from ragx.reader.prompt import passage_text
from ragx.tokenization import plain_ids
from ragx.types import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ragx.cepe.model import CepeModel
    from ragx.cepe.store import PassageStore


class CepeReader(Reader):
    """Reads K passages through the encoder and the first `n_decoder` of them in the prompt (paper section 4.2)."""

    def __init__(self, model: CepeModel, tokenizer: PreTrainedTokenizerFast, store: PassageStore | None = None) -> None:
        """`store` keeps encodings on disk; without one, every question encodes its passages."""
        super().__init__(model, tokenizer)
        self.store = store

    def prepare(self, question: str, passages: Sequence[Passage], *, n_decoder: int, generation: Generation) -> Reading:
        import torch

        prompt, notes = self._prompt(question, passages[:n_decoder], generation)
        ids = self.encoder_ids(passages)
        window = self.window
        long = sum(len(passage) > window for passage in ids)
        if long:
            notes.append(f"{long} passages are longer than the encoder's window of {window} tokens and were cut")
        ids = [passage[:window] for passage in ids]
        with torch.inference_mode():
            context = self.store.encode(self.model, ids) if self.store else self.model.encode_passages(ids)
        return Reading(prompt, context, notes)

    @property
    def window(self) -> int:
        """How many tokens of a passage the encoder takes."""
        return int(self.model.config.encoder_config.max_position_embeddings)

    def encoder_ids(self, passages: Sequence[Passage]) -> list[list[int]]:
        """Token ids of what the encoder reads of each passage, title and text, before they are cut to its window."""
        return plain_ids(self.tokenizer, [passage_text(passage) for passage in passages])
