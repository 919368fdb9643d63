"""What a recipe makes of its data, and what the model is given: one example, and a padded batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

IGNORE = -100
"""Label of a position without a loss."""
MULTIPLE = 8
"""Decoder rows are padded to a multiple of this, as matrix units like it."""


@dataclass(frozen=True)
class Example:
    """One question, or one sequence: what decoder and encoder read and what is to be predicted."""

    ids: list[int]
    """(N,), the decoder's tokens."""
    labels: list[int]
    """(N,), the token that is to follow each of `ids`, or `IGNORE`."""
    passages: list[list[int]]
    """(K, L), what the encoder reads; none of them is empty."""
    origin: str
    """Where it came from, for messages."""
    before: list[int] = field(default_factory=list)
    """What stands before `ids` in the text, whole, for a teacher that reads both; empty where there is none."""


@dataclass(frozen=True)
class Batch:
    """Examples as tensors, padded at the end."""

    ids: Tensor
    """(B, N)."""
    labels: Tensor
    """(B, N)."""
    passages: Tensor
    """(B, K, L)."""
    passage_mask: Tensor
    """(B, K, L), true where a token is."""
    origins: tuple[str, ...]
    tokens: int
    """Decoder tokens without padding."""
    before: Tensor
    """(B, T), the same number in every row."""

    @property
    def encoder_tokens(self) -> int:
        """M over all questions."""
        return int(self.passage_mask.sum())

    @property
    def predictions(self) -> int:
        """How many tokens are to be predicted."""
        return int((self.labels != IGNORE).sum())

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return replace(
            self,
            ids=self.ids.to(device),
            labels=self.labels.to(device),
            passages=self.passages.to(device),
            passage_mask=self.passage_mask.to(device),
            before=self.before.to(device),
        )


def following(ids: Sequence[int], first: int = 0) -> list[int]:
    """The labels (N,) of language modelling: at each position the next token, from position `first` on."""
    return [IGNORE if position < first else token for position, token in enumerate([*ids[1:], IGNORE])]


def chunks(ids: Sequence[int], size: int) -> list[list[int]]:
    """`ids` cut into passages of `size` tokens, the last maybe shorter."""
    return [list(ids[start : start + size]) for start in range(0, len(ids), size)]


def collate(examples: Sequence[Example]) -> Batch:
    """Examples as one batch. Decoder rows are padded at the end, where causal attention never looks."""
    longest = max(len(example.ids) for example in examples)
    width = -(-longest // MULTIPLE) * MULTIPLE
    passages = max(max(len(example.passages) for example in examples), 1)
    length = max((len(passage) for example in examples for passage in example.passages), default=1)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORE)
    encoded = torch.zeros(len(examples), passages, length, dtype=torch.long)
    mask = torch.zeros(len(examples), passages, length, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
        for number, passage in enumerate(example.passages):
            encoded[row, number, : len(passage)] = torch.tensor(passage)
            mask[row, number, : len(passage)] = True
    origins = tuple(example.origin for example in examples)
    before = torch.tensor([example.before for example in examples], dtype=torch.long)
    return Batch(ids, labels, encoded, mask, origins, sum(len(example.ids) for example in examples), before)


def micro_batches(examples: Sequence[Example], size: int) -> list[Batch]:
    """A step's examples as batches of at most `size`, those of like length together so that little is padded."""
    ordered = sorted(examples, key=lambda example: (len(example.ids), sum(map(len, example.passages))))
    return [collate(ordered[start : start + size]) for start in range(0, len(ordered), size)]
