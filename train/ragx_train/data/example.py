"""One training example, and a padded batch of them.

Shared work is done once: a passage that several rows of a batch read is encoded once, and continuations of the same
prefix (questions about the same passages) follow it in one row, each masked from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

import torch
from torch import Tensor

from ragx.errors import CorpusError
from ragx.util.tokenization import Tokenizer

IGNORE = -100
"""Label of a position without a loss."""
MULTIPLE = 8
"""Decoder rows are padded to a multiple of this, which matrix units need to be fast."""


def end_of_text(tokenizer: Tokenizer) -> int:
    """The token that ends answers and separates documents.

    Raises:
        CorpusError: the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise CorpusError("the decoder's tokenizer has no end-of-text token")
    return tokenizer.eos_token_id


def start_of_text(tokenizer: Tokenizer) -> int:
    """The token before the first of a text.

    Raises:
        CorpusError: the tokenizer has none.
    """
    if tokenizer.bos_token_id is None:
        raise CorpusError("the decoder's tokenizer has no start token: set data.separators to eos")
    return tokenizer.bos_token_id


@dataclass(frozen=True)
class Example:
    """What decoder and encoder read, and the labels."""

    ids: list[int]
    """(N,), the decoder's tokens."""
    labels: list[int]
    """(N,), the token to predict after each of `ids`, or `IGNORE`."""
    passages: list[list[int]]
    """(K, L), what the encoder reads; none is empty."""
    origin: str
    """Where it comes from, for messages."""
    before: list[int] = field(default_factory=list)
    """The text before `ids`, unmasked, for a teacher that reads both; empty without one."""
    segments: list[int] = field(default_factory=list)
    """(N,), 0 in the shared prefix, then 1, 2, … in its continuations; empty: one text. See `attention`."""
    gold: list[list[int]] = field(default_factory=list)
    """For each continuation the indices of the `passages` that hold its answer, if known."""
    ratio: int = 1
    """Tokens for each embedding, where passages are embedded."""
    attend_from: int = 0
    """The first of `ids` that attends to the passages."""


@dataclass(frozen=True)
class Batch:
    """Examples as tensors, padded at the end."""

    ids: Tensor
    """(B, N)."""
    labels: Tensor
    """(B, N)."""
    segments: Tensor | None
    """(B, N), see `Example`; None if every row is one text."""
    passages: Tensor
    """(P, L), the distinct passages."""
    passage_mask: Tensor
    """(P, L), true at tokens."""
    reads: tuple[tuple[int, ...], ...]
    """Indices of the P passages that each row reads."""
    gold: tuple[list[list[int]], ...]
    """See `Example`, one for each row."""
    origins: tuple[str, ...]
    tokens: int
    """Decoder tokens without padding."""
    before: Tensor
    """(B, T), of the same length in every row."""
    ratios: tuple[int, ...]
    """See `Example`, one for each row."""
    attending: Tensor | None
    """(B, N), true at tokens that attend to the passages; None: all do."""

    @property
    def encoder_tokens(self) -> int:
        """Number of tokens that the encoder reads."""
        return int(self.passage_mask.sum())

    @property
    def context_tokens(self) -> int:
        """M of the row that reads most."""
        lengths: list[int] = self.passage_mask.sum(dim=1).tolist()
        return max(sum(lengths[place] for place in row) for row in self.reads)

    @property
    def predictions(self) -> int:
        """Number of tokens to predict."""
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
            attending=None if self.attending is None else self.attending.to(device),
        )


def next_tokens(ids: Sequence[int], first: int = 0) -> list[int]:
    """The labels (N,) of language modelling: the next token at each position from `first`, `IGNORE` before."""
    return [IGNORE if position < first else token for position, token in enumerate([*ids[1:], IGNORE])]


def chunks(ids: Sequence[int], size: int) -> list[list[int]]:
    """`ids` as passages of `size` tokens; the last may be shorter."""
    return [list(ids[start : start + size]) for start in range(0, len(ids), size)]


def side_by_side(prompts: Sequence[list[int]], answers: Sequence[list[int]], origin: str) -> Example:
    """Prompts with their answers in one row, after the prefix that all prompts share; the loss is on the answers.

    The last token of an answer is not among `ids`, because nothing follows it.
    """
    # the token before an answer belongs to the answer's segment
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    ids, labels, segments = prompts[0][:shared], [IGNORE] * shared, [0] * shared
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        whole = [*prompt, *answer]
        ids += whole[shared:-1]
        labels += next_tokens(whole, first=len(prompt) - 1)[shared:-1]
        segments += [number] * (len(whole) - 1 - shared)
    return Example(ids, labels, passages=[], origin=origin, segments=segments)


def attention(segments: Tensor) -> tuple[Tensor, Tensor]:
    """The causal mask of rows whose continuations share a prefix: each continuation sees the prefix and itself.

    Args:
        segments: (B, N), 0 in the shared prefix, and a number of its own in each continuation.

    Returns:
        A mask (B, 1, N, N), true where a token (row) sees another (column), and positions (B, N).
    """
    prefix, same = segments[:, None, :] == 0, segments[:, :, None] == segments[:, None, :]
    seen = (prefix | same).tril()  # (B, N, N)
    return seen[:, None], seen.sum(dim=2) - 1


def collate(examples: Sequence[Example]) -> Batch:
    """Examples as one batch. Decoder rows are padded at the end, which causal attention does not see."""
    longest = max(len(example.ids) for example in examples)
    width = -(-longest // MULTIPLE) * MULTIPLE
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORE)
    segments = torch.zeros(len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
        segments[row, : len(example.segments)] = torch.tensor(example.segments)
    starts = torch.tensor([example.attend_from for example in examples])
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
        ratios=tuple(example.ratio for example in examples),
        attending=torch.arange(width) >= starts[:, None] if starts.any() else None,
    )


def micro_batches(examples: Sequence[Example], size: int) -> list[Batch]:
    """A step's examples as batches of at most `size`, sorted by length to need little padding.

    Those of one text come first: a batch of them needs no mask.
    """
    ordered = sorted(examples, key=lambda each: (bool(each.segments), len(each.ids), sum(map(len, each.passages))))
    return [collate(ordered[start : start + size]) for start in range(0, len(ordered), size)]
