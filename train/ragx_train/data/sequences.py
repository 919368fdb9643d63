"""Training sequences of T tokens, each a function of its position alone.

`filter` takes them from single documents of at least T tokens, `cat` from documents joined by the end-of-text token
(paper 2.2); either can draw domains by weight. An epoch yields every sequence of a part once, in random order; the next
epoch has other boundaries. There is no state between positions, so training can resume at any step and with any number
of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as SequenceOf
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragx.errors import CorpusError
from ragx_train.data.documents import Corpus, Split
from ragx_train.data.example import end_of_text, start_of_text
from ragx_train.data.mixing import pick
from ragx_train.settings import DocumentSettings, LoopSettings, Weights

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

Sequence = tuple[list[int], str]
"""T token ids, and the names of their documents, for messages."""
WEIGHT_STEPS = 1000
"""Weights of domains are rounded to multiples of 1 / WEIGHT_STEPS."""
SPLITS: tuple[Split, Split] = ("train", "test")


class Part(ABC):
    """One way to take sequences from documents."""

    def __init__(self, corpus: Corpus, documents: NDArray[np.int64], length: int, seed: int) -> None:
        self.corpus, self.documents, self.length, self.seed = corpus, documents, length, seed
        self.lengths = corpus.lengths[documents]
        self._order = lru_cache(maxsize=2)(self._make_order)

    size: int
    """Number of sequences in an epoch."""

    @abstractmethod
    def sequence(self, epoch: int, number: int) -> Sequence:
        """A sequence of an epoch, numbered in text order."""

    def __getitem__(self, index: int) -> Sequence:
        epoch, place = divmod(index, self.size)
        return self.sequence(epoch, int(self._order(epoch)[place]))

    def random(self, *numbers: int) -> np.random.Generator:
        """A generator seeded by the seed and `numbers`."""
        return np.random.default_rng([self.seed, *numbers])

    def _make_order(self, epoch: int) -> NDArray[np.int64]:
        return self.random(epoch).permutation(self.size)


class Filter(Part):
    """Sequences within documents of at least T tokens, each `stride` tokens after the one before."""

    def __init__(
        self, corpus: Corpus, documents: NDArray[np.int64], length: int, seed: int, stride: int | None = None
    ) -> None:
        super().__init__(corpus, documents[corpus.lengths[documents] >= length], length, seed)
        self.stride = stride or length
        self.ends = np.cumsum((self.lengths - length) // self.stride + 1)
        self.size = int(self.ends[-1]) if len(self.ends) else 0

    def sequence(self, epoch: int, number: int) -> Sequence:
        place = int(np.searchsorted(self.ends, number, side="right"))
        earlier = number - (int(self.ends[place - 1]) if place else 0)
        spare = (int(self.lengths[place]) - self.length) % self.stride
        start = int(self.random(epoch, place).integers(spare + 1)) + earlier * self.stride
        document = int(self.documents[place])
        return self.corpus.tokens(document, start, start + self.length).tolist(), self.corpus.name(document)


class Cat(Part):
    """Sequences across joined documents, in another order each epoch."""

    def __init__(
        self,
        corpus: Corpus,
        documents: NDArray[np.int64],
        length: int,
        seed: int,
        *,
        separator: int,
        start: int | None = None,
    ) -> None:
        """`separator` follows each document; `start`, if any, precedes it."""
        super().__init__(corpus, documents, length, seed)
        self.separator, self.before = separator, [] if start is None else [start]
        self.around = len(self.before) + 1
        self.total = int(self.lengths.sum()) + self.around * len(documents)
        self.size = self.total // length
        self._joined = lru_cache(maxsize=2)(self._join)

    def sequence(self, epoch: int, number: int) -> Sequence:
        order, ends, shift = self._joined(epoch)
        start = shift + number * self.length
        place = int(np.searchsorted(ends, start, side="right"))
        offset = start - (int(ends[place - 1]) if place else 0)
        ids: list[int] = []
        names = []
        while len(ids) < self.length:
            document = int(self.documents[order[place]])
            first = max(0, offset - len(self.before))
            text = self.corpus.tokens(document, first, first + self.length).tolist()
            ids += [*self.before[offset:], *text, self.separator]
            names.append(self.corpus.name(document))
            place, offset = place + 1, 0
        return ids[: self.length], ", ".join(names)

    def _join(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        random = self.random(epoch, 1)
        order = random.permutation(len(self.documents))
        shift = int(random.integers(self.total % self.length + 1))
        return order, np.cumsum(self.lengths[order] + self.around), shift


class Weighted:
    """The parts of several domains, interleaved by weight."""

    def __init__(self, parts: SequenceOf[Part], weights: SequenceOf[float]) -> None:
        self.parts, self.weights = parts, [round(WEIGHT_STEPS * weight) for weight in weights]

    @property
    def size(self) -> int:
        """Number of positions before a sequence is repeated."""
        return epoch_size(self.parts, self.weights)

    def __getitem__(self, index: int) -> Sequence:
        source, place = pick(self.weights, index)
        return self.parts[source][place]


class Sequences:
    """`filter` and `cat`, interleaved in a ratio."""

    def __init__(
        self,
        corpus: Corpus,
        settings: DocumentSettings,
        tokenizer: Tokenizer,
        *,
        length: int,
        split: Split,
        seed: int,
    ) -> None:
        """Prepare the sequences of a split.

        Raises:
            CorpusError: the split has too little text for a sequence of `length` tokens, or `end_of_text` fails.
        """
        self.weights = settings.mix.filter, settings.mix.cat
        documents = corpus.in_split(split, test=settings.test, retrieval=settings.retrieval)
        long = corpus.of_domains(documents, settings.filter_domains) if settings.filter_domains else documents
        start = start_of_text(tokenizer) if settings.separators == "bos-eos" else None

        def filtered(documents: NDArray[np.int64]) -> Part:
            return Filter(corpus, documents, length, seed, settings.filter_stride)

        def joined(documents: NDArray[np.int64]) -> Part:
            return Cat(corpus, documents, length, seed, separator=end_of_text(tokenizer), start=start)

        def of_kind(kind: str, documents: NDArray[np.int64], weights: Weights) -> Part | Weighted:
            part = filtered if kind == "filter" else joined
            if not weights:
                return part(documents)
            parts = [part(corpus.of_domains(documents, [domain])) for domain in weights]
            return Weighted(parts, list(weights.values()))

        self.parts = (
            of_kind("filter", long, settings.filter_weights),
            of_kind("cat", documents, settings.cat_weights),
        )
        for name, weight, part in zip(("filter", "cat"), self.weights, self.parts, strict=True):
            if weight and not part.size:
                raise CorpusError(
                    f"{name}: the {split} split of {len(documents)} documents has no sequence of {length} tokens"
                    + " in one of its domains" * isinstance(part, Weighted)
                )

    @property
    def size(self) -> int:
        """Number of positions before a sequence is repeated."""
        return epoch_size(self.parts, self.weights)

    def __getitem__(self, position: int) -> Sequence:
        source, index = pick(self.weights, position)
        return self.parts[source][index]


def epoch_size(parts: SequenceOf[Part | Weighted], weights: SequenceOf[int]) -> int:
    """Number of positions before a sequence of a part is repeated, if the parts are interleaved by weight."""
    total = sum(weights)
    return min(part.size * total // weight for part, weight in zip(parts, weights, strict=True) if weight)


def train_and_test(
    corpus: Corpus, data: DocumentSettings, loop: LoopSettings, tokenizer: Tokenizer, *, length: int
) -> tuple[Sequences, list[Sequence]]:
    """The sequences of the training split, and the first `loop.validation_examples` of the test split.

    Raises:
        CorpusError: a split has too little text for a sequence of `length` tokens, or `end_of_text` fails.
    """
    training, test = (
        Sequences(corpus, data, tokenizer, length=length, split=split, seed=loop.seed) for split in SPLITS
    )
    return training, [test[position] for position in range(min(loop.validation_examples, test.size))]
