"""The torch backend: any decoder of the Llama family, on any device and in any number format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import DynamicCache

from ragx.engine.attention_sinks import AttentionSinks, Evicting
from ragx.engine.kv_cache import BatchCache, layers_of
from ragx.engine.prefix import Prefix
from ragx.engine.prefix_cache import PrefixCache, shareable, size_limit

if TYPE_CHECKING:
    from ragx.cepe.context import Context
    from ragx.cepe.model import CepeModel


@dataclass(eq=False)
class TorchSequence:
    """A prompt, as far as it has been read."""

    context: Context | None
    evicting: Evicting | None = None
    """Drops tokens from the cache; None: it keeps all."""
    prefix: Prefix | None = None
    """What is read before the prompt, as long as it has not been read."""
    cache: DynamicCache = field(default_factory=DynamicCache)
    tokens: list[int] = field(default_factory=list)
    reusable: bool = False
    """Whether its beginning may be shared with other sequences."""

    @property
    def room(self) -> int | None:
        """How many tokens fit into the cache before some are dropped; None: any number."""
        return None if self.evicting is None else self.evicting.settings.limit - self.cache.get_seq_length()

    def evict(self) -> None:
        """Drop tokens from the cache if it is full."""
        if self.evicting is not None and self.room == 0:
            for layer, kept in zip(self.cache.layers, self.evicting.evict(layers_of(self.cache)), strict=True):
                layer.keys, layer.values = kept  # type: ignore[union-attr]


class TorchDecoder:
    """Decodes with a CEPE model."""

    def __init__(self, model: CepeModel) -> None:
        self.model = model
        window = getattr(model.config, "sliding_window", None)
        self.batch_limit = 1 if window and window < model.config.max_position_embeddings else None
        self._prefixes = PrefixCache(size_limit(str(model.device)))

    def sequence(self, context: Context | AttentionSinks | Prefix | None, room: int) -> TorchSequence:
        """A sequence; its cache grows as needed, whatever `room`, or keeps only what `AttentionSinks` says."""
        if isinstance(context, Prefix):
            return TorchSequence(None, prefix=context)
        if isinstance(context, AttentionSinks):
            return TorchSequence(None, Evicting(context, self.model))
        return TorchSequence(context, reusable=self.batch_limit is None)

    def reuse(self, sequence: TorchSequence, prompt: Sequence[int]) -> int:
        """Give a new sequence the beginning that its prompt shares with an earlier one; the tokens it has now."""
        if not sequence.reusable:
            return 0
        known = self._prefixes.longest(shareable(prompt, sequence.context))
        for number in range(0, len(known), 2):
            sequence.cache.update(known[number], known[number + 1], number // 2)
        sequence.tokens = list(prompt[: known[0].shape[2]]) if known else []
        return len(sequence.tokens)

    def prefill(self, sequence: TorchSequence, tokens: Sequence[int], *, is_last: bool) -> np.ndarray:
        """Read the next tokens of a prompt; the logits (V,) after the last of them."""
        with _shares_paused(None if is_last else sequence.context):
            logits = _array(self.read(sequence, tokens, keep=1)[-1])
        sequence.tokens += tokens
        if is_last and sequence.reusable:
            layers = [array for pair in layers_of(sequence.cache) for array in pair]
            self._prefixes.add(shareable(sequence.tokens, sequence.context), layers)
        return logits

    @torch.inference_mode()
    def read(self, sequence: TorchSequence, tokens: Sequence[int], *, keep: int) -> torch.Tensor:
        """Read the next tokens; the logits (keep, V) after each of the last ones."""
        if sequence.prefix is not None:
            embeddings = sequence.prefix.embeddings[None]  # (1, S, W)
            self.model(inputs_embeds=embeddings, past_key_values=sequence.cache, use_cache=True, logits_to_keep=1)
            sequence.prefix = None
        logits: list[torch.Tensor] = []
        rest = list(tokens)
        while rest:
            piece, rest = rest[: sequence.room], rest[sequence.room :] if sequence.room is not None else []
            needed = max(0, keep - len(rest))
            output = self.model(
                torch.tensor([piece], device=self.model.device),  # (1, N)
                past_key_values=sequence.cache,
                context=sequence.context,
                use_cache=True,
                logits_to_keep=max(1, min(needed, len(piece))),
            )
            if needed:
                logits.append(output.logits[0])
            sequence.evict()
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def batch(self) -> TorchBatch:
        """An empty batch."""
        return TorchBatch(self.model)


class TorchBatch:
    """Sequences that decode a token each per step; one alone keeps its own cache."""

    def __init__(self, model: CepeModel) -> None:
        self._model = model
        self._alone: TorchSequence | None = None
        self._cache = BatchCache()
        self._contexts: list[Context | None] = []
        self._evicting: list[Evicting | None] = []

    @torch.inference_mode()
    def join(self, sequence: TorchSequence) -> None:
        """Add a sequence whose prompt has been read, as the last row."""
        if not self._contexts:
            self._alone = sequence
        else:
            if self._alone is not None:
                self._cache.join(self._alone.cache)
                self._alone = None
            self._cache.join(sequence.cache)
        self._contexts.append(sequence.context)
        self._evicting.append(sequence.evicting)

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
        if self._alone is None:
            self._cache.leave(row)
        self._alone = None
        self._contexts[row], self._evicting[row] = self._contexts[-1], self._evicting[-1]
        self._contexts.pop()
        self._evicting.pop()

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Read one token of each row; the logits (B, V) after it."""
        ids = torch.tensor(list(tokens), device=self._model.device)[:, None]  # (B, 1)
        if self._alone is not None:
            output = self._model(ids, past_key_values=self._alone.cache, context=self._contexts[0], use_cache=True)
            self._alone.evict()
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
            for row, evicting in enumerate(self._evicting):
                if evicting is not None and self._cache.lengths[row] == evicting.settings.limit:
                    self._cache.replace(row, evicting.evict(self._cache.row(row)))
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
