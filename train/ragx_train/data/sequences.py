"""Training sequences of T tokens, each a function of its position alone.

`filter` takes them from single documents of at least T tokens, `cat` from documents joined by the end-of-text token
(paper 2.2). An epoch yields every sequence of a part once, in random order; the next epoch has other boundaries. There
is no state between positions, so training can resume at any step and with any number of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragx.errors import CorpusError
from ragx_train.data.documents import Corpus, Split
from ragx_train.data.example import end_of_text
from ragx_train.data.mixing import pick
from ragx_train.settings import DocumentSettings, LoopSettings

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

Sequence = tuple[list[int], str]
"""T token ids, and the names of their documents, for messages."""
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
    """Sequences within documents of at least T tokens."""

    def __init__(self, corpus: Corpus, documents: NDArray[np.int64], length: int, seed: int) -> None:
        super().__init__(corpus, documents[corpus.lengths[documents] >= length], length, seed)
        self.ends = np.cumsum(self.lengths // length)
        self.size = int(self.ends[-1]) if len(self.ends) else 0

    def sequence(self, epoch: int, number: int) -> Sequence:
        place = int(np.searchsorted(self.ends, number, side="right"))
        length = int(self.lengths[place])
        earlier = number - (int(self.ends[place - 1]) if place else 0)
        shift = int(self.random(epoch, place).integers(length % self.length + 1))
        start = shift + earlier * self.length
        document = int(self.documents[place])
        return self.corpus.tokens(document, start, start + self.length).tolist(), self.corpus.name(document)


class Cat(Part):
    """Sequences across joined documents, in another order each epoch."""

    def __init__(self, corpus: Corpus, documents: NDArray[np.int64], length: int, seed: int, separator: int) -> None:
        super().__init__(corpus, documents, length, seed)
        self.separator = separator
        self.total = int(self.lengths.sum()) + len(documents)
        self.size = self.total // length
        self._joined = lru_cache(maxsize=2)(self._join)

    def sequence(self, epoch: int, number: int) -> Sequence:
        order, ends, shift = self._joined(epoch)
        start = shift + number * self.length
        place = int(np.searchsorted(ends, start, side="right"))
        ids: list[int] = []
        names = []
        begin = int(ends[place - 1]) if place else 0
        while len(ids) < self.length:
            document = int(self.documents[order[place]])
            offset = start + len(ids) - begin
            ids += self.corpus.tokens(document, offset, offset + self.length - len(ids)).tolist()
            if len(ids) < self.length:
                ids.append(self.separator)
            names.append(self.corpus.name(document))
            begin = int(ends[place])
            place += 1
        return ids, ", ".join(names)

    def _join(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        random = self.random(epoch, 1)
        order = random.permutation(len(self.documents))
        shift = int(random.integers(self.total % self.length + 1))
        return order, np.cumsum(self.lengths[order] + 1), shift


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
        self.parts: tuple[Part, Part] = (
            Filter(corpus, long, length, seed),
            Cat(corpus, documents, length, seed, separator=end_of_text(tokenizer)),
        )
        for name, weight, part in zip(("filter", "cat"), self.weights, self.parts, strict=True):
            if weight and not part.size:
                raise CorpusError(
                    f"{name}: the {split} split of {len(documents)} documents has no sequence of {length} tokens"
                )

    @property
    def size(self) -> int:
        """Number of positions before a sequence is repeated."""
        total = sum(self.weights)
        return min(part.size * total // weight for part, weight in zip(self.parts, self.weights, strict=True) if weight)

    def __getitem__(self, position: int) -> Sequence:
        source, index = pick(self.weights, position)
        return self.parts[source][index]


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
