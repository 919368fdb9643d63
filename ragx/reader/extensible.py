"""The extensible reader: the best passages in the prompt, and before it an embedding for every k tokens of the others
(Extensible Embedding, arXiv 2402.11577).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ragx.config import SamplingParams
from ragx.reader.base import DecoderReader, PreparedPrompt
from ragx.reader.prompt import passage_text
from ragx.reader.task import ANSWER, Task
from ragx.types import Message, Passage

if TYPE_CHECKING:
    from torch import Tensor

    from ragx.cepe.model import CepeModel
    from ragx.cepe.store import OnEncoded, Passages, PassageStore, Rows
    from ragx.engine.batching import BatchDecoder
    from ragx.util.tokenization import Tokenizer


class ExtensibleReader(DecoderReader):
    """Embeds passages in chunks, each on its own, so that their embeddings are kept on disk."""

    torch_only: ClassVar[bool] = True

    def __init__(
        self,
        model: CepeModel,
        tokenizer: Tokenizer,
        batch: BatchDecoder | None = None,
        *,
        ratio: int,
        store: PassageStore | None = None,
    ) -> None:
        """Read with the embedder that `model` was loaded with.

        Args:
            model: the decoder.
            tokenizer: the decoder's.
            batch: as `DecoderReader`.
            ratio: k, tokens for each embedding.
            store: keeps embeddings on disk, one for every k tokens.

        Raises:
            ConfigError: there is no embedder.
        """
        from ragx.extensible.embedder import embedder_of

        super().__init__(model, tokenizer, batch)
        self.chunk, self.ratio, self.store = embedder_of(model).settings.chunk, ratio, store
        self._model = model
        self._embedding = threading.Lock()  # concurrent questions find on disk what the first one embedded

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
        from ragx.engine.prefix import Prefix

        shown = passages[:prompt_passages]
        prompt, notes = self._prompt(question, shown, sampling, history, task)
        whole = task.is_document or prompt.passages == len(shown)  # otherwise any of them may be missing
        others = passages[prompt.passages if whole else 0 :]
        left = self.model.window - len(prompt.ids)
        chunks = self._fitting(others, left - min(sampling.max_new_tokens, left // 2))
        if len(chunks) < len(others):
            notes.append(
                f"the decoder's window of {self.model.window} tokens holds the embeddings of {len(chunks)} of"
                f" {len(others)} passages"
            )
        ordered = [chunk for passage in reversed(chunks) for chunk in passage]  # the best one comes last
        prefix = Prefix(self.embed(ordered, on_encoded), sum(map(len, ordered))) if ordered else None
        return PreparedPrompt(prompt, None, notes, prefix, first_encoded=len(passages) - len(others))

    def embed(self, chunks: Passages, on_encoded: OnEncoded | None = None) -> Tensor:
        """The embeddings (S, W) of chunks, read from disk or computed and kept; in the stored format either way."""
        import torch

        from ragx.cepe.encodings import pack_rows
        from ragx.extensible.embedder import embed

        store = self.store

        def rows(missing: Passages) -> Rows:
            with torch.no_grad():
                embeddings = torch.cat(embed(self._model, missing, self.ratio))
            return pack_rows(embeddings, "bfloat16" if store is None else store.format)

        with self._embedding:
            stored = rows(chunks) if store is None else store.encode(chunks, rows, on_encoded)
        weight = self._model.model.embed_tokens.weight
        return torch.from_numpy(stored.to_float32()).to(weight.device, weight.dtype)

    def room(self, prepared: PreparedPrompt) -> int:
        """Tokens that embeddings and prompt leave the answer."""
        from ragx.engine.prefix import Prefix

        before = len(prepared.layout.embeddings) if isinstance(prepared.layout, Prefix) else 0
        return super().room(prepared) - before

    def close(self) -> None:
        """Stop decoding and close the store."""
        super().close()
        if self.store is not None:
            self.store.close()

    def _fitting(self, passages: Sequence[Passage], room: int) -> list[list[list[int]]]:
        """The chunks of each passage, best first, up to the first one whose embeddings do not fit."""
        kept = []
        for ids in self.tokenizer.plain_ids([passage_text(passage) for passage in passages]):
            chunks = [ids[start : start + self.chunk] for start in range(0, len(ids), self.chunk)]
            room -= sum(-(-len(chunk) // self.ratio) for chunk in chunks)
            if room < 0:
                break
            kept.append(chunks)
        return kept


READER = ExtensibleReader
