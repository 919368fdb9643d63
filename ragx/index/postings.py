"""BM25's postings of a corpus of any size: counted block by block, kept on disk, and merged word by word.

Memory holds one block or a part of the merged postings, and a few lines of each block's words; neither grows with the
corpus. A block covers consecutive passages, so that the rows of a word are those of the blocks one after another.
"""

from __future__ import annotations

import heapq
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

import numpy as np

from ragx.util.files import writing

TOKENS_IN_BLOCK = 4_000_000
POSTINGS_MERGED = 4_000_000
"""Postings that are put together in memory at a time."""
READ_AT_ONCE = 8192
"""Bytes of a block's words."""
POSTING = np.dtype([("row", "<i4"), ("count", "<i4"), ("length", "<i4")])
"""A word in a passage: which, how often, and how many words the passage has."""


class Counted(NamedTuple):
    """The words of the first passages of an index, as it counted them."""

    passages: int
    """How many of them."""
    words: list[str]
    """Of the whole index, in alphabetical order."""
    starts: np.ndarray
    """(words + 1,): where the postings of each word begin, and the last end."""
    rows: np.ndarray
    """(postings,): ascending for each word."""
    counts: np.ndarray
    """(postings,)."""
    lengths: np.ndarray
    """Words of each passage of the whole index."""


@dataclass(frozen=True)
class _Block:
    """Where a block lies in the temporary files."""

    words: range
    """Bytes of the file of words: a line for each, in alphabetical order, with the number of its postings."""
    postings: int
    """Byte of the file of postings where the block's begin: word after word, rows ascending."""


@dataclass
class _Part:
    """Words, consecutive in the alphabet, whose postings are merged together."""

    frequencies: list[int] = field(default_factory=list)
    """How many passages hold each word."""
    columns: dict[int, array[int]] = field(default_factory=dict)
    """By block: which of the words it holds."""
    counts: dict[int, array[int]] = field(default_factory=dict)
    """By block: the number of postings of each of these."""
    total: int = 0

    def add(self, found: Iterable[tuple[str, int, int]]) -> None:
        """Add a word: (word, block, postings) for each block that holds it, in order."""
        frequency = 0
        for _, block, count in found:
            self.columns.setdefault(block, array("q")).append(len(self.frequencies))
            self.counts.setdefault(block, array("q")).append(count)
            frequency += count
        self.frequencies.append(frequency)
        self.total += frequency


class Postings:
    """Counts the words of passages, given as ids of their words, and then merges what it counted.

    Files without a name in `folder` hold what was counted, so nothing is left of a process that dies.

    Raises:
        IndexFolderError: nothing can be written to `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passages = 0
        self.tokens = 0
        self.total = 0
        """Different words of a passage, over all passages."""
        self.most = 0
        """How often a word stands in a passage, at most."""
        self._blocks: list[_Block] = []
        with writing(folder):
            self._words: BinaryIO = TemporaryFile(dir=folder)  # noqa: SIM115
            self._postings: BinaryIO = TemporaryFile(dir=folder)  # noqa: SIM115
            self.lengths: BinaryIO = TemporaryFile(dir=folder)  # noqa: SIM115
            """Words of each passage, int32."""

    def close(self) -> None:
        """Give the disk space back."""
        self.lengths.close()
        self._words.close()
        self._postings.close()

    def count(self, tokens: array[int], lengths: array[int], vocabulary: dict[str, int]) -> None:
        """Add a block: the ids of the words of consecutive passages, how many each passage has, ids by word."""
        words = sorted(vocabulary)
        rank = np.empty(max(vocabulary.values(), default=-1) + 1, np.int64)
        rank[[vocabulary[word] for word in words]] = np.arange(len(words))
        passages = np.asarray(lengths)
        width = max(len(passages), 1)
        keys = rank[np.asarray(tokens)] * width + np.repeat(np.arange(len(passages)), passages)
        keys, counts = np.unique(keys, return_counts=True)
        postings = np.empty(len(keys), POSTING)
        postings["row"] = keys % width + self.passages
        postings["count"] = counts
        postings["length"] = passages[keys % width]
        numbers = np.bincount(keys // width, minlength=len(words))
        self._add_block(words, numbers, [postings])
        self._add_passages(passages)

    def take(self, counted: Counted, deleted: np.ndarray) -> None:
        """Add what another index counted as the first block, in which `deleted` rows have no words."""
        alive = np.ones(counted.passages, bool)
        alive[deleted] = False
        numbers = np.zeros(len(counted.words), np.int64)

        def parts() -> Iterator[np.ndarray]:
            for start in range(0, len(counted.rows), POSTINGS_MERGED):
                rows = np.asarray(counted.rows[start : start + POSTINGS_MERGED])
                kept = np.flatnonzero(rows < counted.passages)
                kept = kept[alive[rows[kept]]]
                words = np.searchsorted(counted.starts, kept + start, side="right") - 1
                np.add(numbers, np.bincount(words, minlength=len(numbers)), out=numbers)
                postings = np.empty(len(kept), POSTING)
                postings["row"] = rows[kept]
                postings["count"] = counted.counts[kept + start]
                postings["length"] = counted.lengths[rows[kept]]
                yield postings

        self._add_block(counted.words, numbers, parts())
        for start in range(0, counted.passages, POSTINGS_MERGED):
            part = slice(start, min(start + POSTINGS_MERGED, counted.passages))
            self._add_passages(np.where(alive[part], counted.lengths[part], 0))

    def _add_block(self, words: list[str], numbers: np.ndarray, parts: Iterable[np.ndarray]) -> None:
        """Write postings, part by part; `numbers`, how many each word has, are read after the last."""
        with writing(self.folder):
            first = self._postings.tell()
            for postings in parts:
                self._postings.write(postings.data)
                self.total += len(postings)
                self.most = max(self.most, int(postings["count"].max(initial=0)))
            held = ((word, number) for word, number in zip(words, numbers.tolist(), strict=True) if number)
            text = "".join(f"{word}\t{number}\n" for word, number in held).encode()
            start = self._words.tell()
            self._words.write(text)
            self._blocks.append(_Block(range(start, self._words.tell()), first))

    def _add_passages(self, lengths: np.ndarray) -> None:
        with writing(self.folder):
            self.lengths.write(lengths.astype("<i4").data)
        self.passages += len(lengths)
        self.tokens += int(lengths.sum())

    def merged(self) -> Iterator[tuple[list[str], list[int], Iterator[tuple[np.ndarray, np.ndarray]]]]:
        """Words in alphabetical order, some at a time.

        Yields:
            Words, how many passages hold each, and pairs of their postings, (n,) `POSTING`, and of the number of
            passages that hold the posting's word, (n,): those of one word after those of another, rows ascending.
        """
        with writing(self.folder):
            self._words.flush()
            self._postings.flush()
        at = [block.postings for block in self._blocks]
        words: list[str] = []
        part = _Part()
        streams = (self._words_of(number) for number in range(len(self._blocks)))
        for word, found in groupby(heapq.merge(*streams), key=itemgetter(0)):
            words.append(word)
            part.add(found)
            if part.total >= POSTINGS_MERGED:
                yield words, part.frequencies, self._gather(part, at)
                words, part = [], _Part()
        if words:
            yield words, part.frequencies, self._gather(part, at)

    def _words_of(self, number: int) -> Iterator[tuple[str, int, int]]:
        """Each word of a block, the block's number, and how many postings the word has in it."""
        where = self._blocks[number].words
        rest = b""
        for start in range(where.start, where.stop, READ_AT_ONCE):
            read = os.pread(self._words.fileno(), min(READ_AT_ONCE, where.stop - start), start)
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                word, count = line.split(b"\t")
                yield word.decode(), number, int(count)

    def _gather(self, part: _Part, at: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The postings of a part; `at` says where those of each block begin, and is moved on."""
        frequencies = np.array(part.frequencies)
        segments = ((block, self._read(at, block, sum(part.counts[block]))) for block in sorted(part.counts))
        if len(frequencies) == 1:  # a frequent word may have more postings than fit into memory
            for _, postings in segments:
                yield postings, np.broadcast_to(frequencies, len(postings))
            return
        gathered = np.empty(part.total, POSTING)
        free = np.cumsum(frequencies) - frequencies  # where the next posting of each word goes
        for block, postings in segments:
            columns, counts = np.asarray(part.columns[block]), np.asarray(part.counts[block])
            places = np.repeat(free[columns] - (np.cumsum(counts) - counts), counts) + np.arange(len(postings))
            gathered[places] = postings
            free[columns] += counts
        yield gathered, np.repeat(frequencies, frequencies)

    def _read(self, at: list[int], block: int, number: int) -> np.ndarray:
        read = os.pread(self._postings.fileno(), number * POSTING.itemsize, at[block])
        at[block] += number * POSTING.itemsize
        return np.frombuffer(read, POSTING)
