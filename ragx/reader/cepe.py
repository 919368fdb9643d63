"""The CEPE reader: the top passages stand in the prompt, all of them are encoded and attended to."""

from __future__ import annotations

from collections.abc import Sequence

from ragx.reader.base import Generation, Reader, Reading
from ragx.reader.prompt import passage_text
from ragx.tokenization import plain_ids
from ragx.types import Passage


class CepeReader(Reader):
    """Reads K passages through the encoder and the first `n_decoder` of them in the prompt (paper section 4.2)."""

    def prepare(self, question: str, passages: Sequence[Passage], *, n_decoder: int, generation: Generation) -> Reading:
        import torch

        prompt, notes = self._prompt(question, passages[:n_decoder], generation)
        ids = plain_ids(self.tokenizer, [passage_text(passage) for passage in passages])
        window = self.model.config.encoder_config.max_position_embeddings
        long = sum(len(passage) > window for passage in ids)
        if long:
            notes.append(f"{long} passages are longer than the encoder's window of {window} tokens and were cut")
        with torch.inference_mode():
            context = self.model.encode_passages([passage[:window] for passage in ids])
        return Reading(prompt, context, notes)
