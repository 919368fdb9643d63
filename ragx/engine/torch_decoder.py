"""The torch backend: any decoder of the Llama family, on any device and in any number format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import DynamicCache

from ragx.engine.kv_cache import BatchCache

if TYPE_CHECKING:
    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel


@dataclass(eq=False)
class TorchSequence:
    """A prompt, as far as it has been read."""

    context: Context | None
    cache: DynamicCache = field(default_factory=DynamicCache)


class TorchDecoder:
    """Decodes with a CEPE model."""

    def __init__(self, model: CepeModel) -> None:
        self.model = model
        window = getattr(model.config, "sliding_window", None)
        self.batch_limit = 1 if window and window < model.config.max_position_embeddings else None

    def sequence(self, context: Context | None, room: int) -> TorchSequence:
        """A sequence; its cache grows as needed, whatever `room`."""
        return TorchSequence(context)

    @torch.inference_mode()
    def prefill(self, sequence: TorchSequence, tokens: Sequence[int], *, is_last: bool) -> np.ndarray:
        """Read the next tokens of a prompt; the logits (V,) after the last of them."""
        with _shares_paused(None if is_last else sequence.context):
            output = self.model(
                torch.tensor([list(tokens)], device=self.model.device),  # (1, N)
                past_key_values=sequence.cache,
                context=sequence.context,
                use_cache=True,
                logits_to_keep=1,
            )
        return _array(output.logits[0, -1])

    def batch(self) -> TorchBatch:
        """An empty batch."""
        return TorchBatch(self.model)


class TorchBatch:
    """Sequences that decode a token each per step; one alone keeps its own cache."""

    def __init__(self, model: CepeModel) -> None:
        self._model = model
        self._alone: DynamicCache | None = None
        self._cache = BatchCache()
        self._contexts: list[Context | None] = []

    @torch.inference_mode()
    def join(self, sequence: TorchSequence) -> None:
        """Add a sequence whose prompt has been read, as the last row."""
        if not self._contexts:
            self._alone = sequence.cache
        else:
            if self._alone is not None:
                self._cache.join(self._alone)
                self._alone = None
            self._cache.join(sequence.cache)
        self._contexts.append(sequence.context)

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
        if self._alone is None:
            self._cache.leave(row)
        self._alone = None
        self._contexts[row] = self._contexts[-1]
        self._contexts.pop()

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Read one token of each row; the logits (B, V) after it."""
        ids = torch.tensor(list(tokens), device=self._model.device)[:, None]  # (B, 1)
        if self._alone is not None:
            output = self._model(ids, past_key_values=self._alone, context=self._contexts[0], use_cache=True)
        else:
            positions, mask = self._cache.next_positions(self._model.device)
            output = self._model(
                ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self._cache,
                context=self._contexts if any(self._contexts) else None,
                use_cache=True,
            )
            self._cache.advance()
        return _array(output.logits[:, -1])


def _array(logits: torch.Tensor) -> np.ndarray:
    array: np.ndarray = logits.float().cpu().numpy()
    return array


@contextlib.contextmanager
def _shares_paused(context: Context | None) -> Iterator[None]:
    """Record no attention shares meanwhile: of a prompt, only the last token's attention counts."""
    record_attention = context is not None and context.record_attention
    if context is not None:
        context.record_attention = False
    try:
        yield
    finally:
        if context is not None:
            context.record_attention = record_attention
