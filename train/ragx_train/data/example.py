"""What a recipe makes of its data, and what the model is given: one example, and a padded batch of them.

Two things are done once for many: a passage that several rows of a batch read is encoded once, and continuations that
share their start (questions to the same passages) stand in one row behind it, each unseen by the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

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
    segments: list[int] = field(default_factory=list)
    """(N,), 0 in the shared start, then 1, 2, … in each continuation of it; empty: one text. See `attention`."""
    gold: list[list[int]] = field(default_factory=list)
    """Of each continuation: which of `passages` hold its answer, where that is known."""


@dataclass(frozen=True)
class Batch:
    """Examples as tensors, padded at the end."""

    ids: Tensor
    """(B, N)."""
    labels: Tensor
    """(B, N)."""
    segments: Tensor | None
    """(B, N), see `Example`; None where every row is one text."""
    passages: Tensor
    """(P, L), each once."""
    passage_mask: Tensor
    """(P, L), true where a token is."""
    reads: tuple[tuple[int, ...], ...]
    """Which of the P passages each row reads."""
    gold: tuple[list[list[int]], ...]
    """See `Example`, for each row."""
    origins: tuple[str, ...]
    tokens: int
    """Decoder tokens without padding."""
    before: Tensor
    """(B, T), the same number in every row."""

    @property
    def encoder_tokens(self) -> int:
        """How many tokens the encoder reads."""
        return int(self.passage_mask.sum())

    @property
    def context_tokens(self) -> int:
        """M, of the row that reads most."""
        lengths: list[int] = self.passage_mask.sum(dim=1).tolist()
        return max(sum(lengths[place] for place in row) for row in self.reads)

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
            segments=None if self.segments is None else self.segments.to(device),
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


def side_by_side(prompts: Sequence[list[int]], answers: Sequence[list[int]], origin: str) -> Example:
    """Prompts and the answers to them in one row, what all prompts begin with only once; the loss is on the answers.

    No answer's last token is among `ids`, as nothing follows it.
    """
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)  # an answer follows a token of its own segment
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    ids, labels, segments = prompts[0][:shared], [IGNORE] * shared, [0] * shared
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        whole = [*prompt, *answer]
        ids += whole[shared:-1]
        labels += following(whole, first=len(prompt) - 1)[shared:-1]
        segments += [number] * (len(whole) - 1 - shared)
    return Example(ids, labels, passages=[], origin=origin, segments=segments)


def attention(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Who sees whom where continuations share a start: what each would see if it stood behind the start alone.

    Args:
        segments: (B, N), 0 in the shared start, and a number of its own in each continuation.

    Returns:
        A mask (B, 1, N, N), true where a token (row) sees another (column), and positions (B, N).
    """
    start, same = segments[:, None, :] == 0, segments[:, :, None] == segments[:, None, :]
    seen = (start | same).tril()  # (B, N, N)
    return seen[:, None], seen.sum(dim=2) - 1


def collate(examples: Sequence[Example]) -> Batch:
    """Examples as one batch. Decoder rows are padded at the end, where causal attention never looks."""
    longest = max(len(example.ids) for example in examples)
    width = -(-longest // MULTIPLE) * MULTIPLE
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORE)
    segments = torch.zeros(len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
        segments[row, : len(example.segments)] = torch.tensor(example.segments)
    places: dict[tuple[int, ...], int] = {}
    reads = tuple(
        tuple(places.setdefault(tuple(passage), len(places)) for passage in each.passages) for each in examples
    )
    encoded = torch.zeros(max(1, len(places)), max(map(len, places), default=1), dtype=torch.long)
    mask = torch.zeros_like(encoded, dtype=torch.bool)
    for passage, place in places.items():
        encoded[place, : len(passage)] = torch.tensor(passage)
        mask[place, : len(passage)] = True
    return Batch(
        ids,
        labels,
        segments if any(example.segments for example in examples) else None,
        encoded,
        mask,
        reads,
        gold=tuple(example.gold for example in examples),
        origins=tuple(example.origin for example in examples),
        tokens=sum(len(example.ids) for example in examples),
        before=torch.tensor([example.before for example in examples], dtype=torch.long),
    )


def micro_batches(examples: Sequence[Example], size: int) -> list[Batch]:
    """A step's examples as batches of at most `size`, those of like length together to pad little."""
    ordered = sorted(examples, key=lambda each: (len(each.ids), sum(map(len, each.passages))))
    return [collate(ordered[start : start + size]) for start in range(0, len(ordered), size)]
