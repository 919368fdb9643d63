"""PassageStore: read stored encodings, encode and store the missing ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragx.cepe.store.records import RecordStore, record_bytes
from ragx.cepe.store.rows import Rows, concatenate, row_bytes
from ragx.types import EncodingFormat

FILL_TOKENS = 16_384
"""Tokens per batch in `fill`."""
ENCODE_TOKENS = 8192
"""Tokens per batch in `encode`: about a second's work for two CPU cores."""

Passages = Sequence[Sequence[int]]
"""Token ids of each passage."""
Encode = Callable[[Passages], Rows]
"""Encodes passages in one batch: their concatenated rows (M, E) in the store's format."""
OnEncoded = Callable[[int, int], object]
"""Called with the number of passages encoded so far, and of all that have to be."""
EncodeBatches = Callable[[Iterable[Passages]], Iterable[tuple[Passages, Rows]]]
"""Takes batches of passages and yields each with its rows, as `Encode` gives them, in any order."""


@dataclass(frozen=True)
class Stats:
    """Numbers of passages requested since the store was opened."""

    hits: int
    misses: int
    dropped: int
    """Damaged encodings; the misses include them."""


@dataclass(frozen=True)
class FillResult:
    """Result of `PassageStore.fill`."""

    encoded: int
    present: int
    complete: bool
    """False if the cache is too small for all passages or cannot be written."""


class PassageStore:
    """Encodings of passages by token ids, for one reader.

    Processes, threads and readers may share a folder: a store finds only rows of its own fingerprint, width and format.
    Disk errors are never raised; passages that cannot be read are encoded instead.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        width: int,
        *,
        format: EncodingFormat = "bfloat16",
        max_bytes: int,
        tokens_a_row: int = 1,
    ) -> None:
        """Open the store in `folder`, creating it if necessary.

        Args:
            folder: holds the encodings of all readers.
            fingerprint: identifies the encoder, tokenizer and number format.
            width: the encoder's E.
            format: number format of stored rows.
            max_bytes: maximum size of the database; the least recently used passages are evicted. 0 writes nothing.
            tokens_a_row: a passage has a row for every so many tokens, and one for the tokens after those.
        """
        self.width = width
        self.format: EncodingFormat = format
        self._tokens_a_row = tokens_a_row
        ratio = f"\n{tokens_a_row}" if tokens_a_row > 1 else ""
        self._name = hashlib.sha256(f"{fingerprint}\n{width}\n{format}{ratio}".encode()).digest()
        self._records = RecordStore(folder, max_bytes)
        self._hits = self._misses = 0

    @property
    def stats(self) -> Stats:
        """Counts since the store was opened."""
        return Stats(self._hits, self._misses, self._records.dropped)

    def close(self) -> None:
        """Close the database; rows already returned stay valid."""
        self._records.close()

    def get(self, passages: Passages) -> list[Rows | None]:
        """The rows (L, E) of each passage, read-only, or None if it is not stored."""
        payloads = self._records.read([self._key(passage) for passage in passages])
        missing = payloads.count(None)
        self._misses += missing
        self._hits += len(passages) - missing
        return [
            None if payload is None else Rows.from_bytes(payload, self._rows(passage), self.width, self.format)
            for passage, payload in zip(passages, payloads, strict=True)
        ]

    def put(self, passages: Passages, rows: Sequence[Rows]) -> None:
        """Store the rows (L, E) of each passage.

        Raises:
            ValueError: a shape or format does not match.
        """
        for passage, row in zip(passages, rows, strict=True):
            if (row.values.shape, row.format) != ((self._rows(passage), self.width), self.format):
                expected = f"{(self._rows(passage), self.width)} in {self.format}"
                raise ValueError(f"rows must be {expected}, got {row.values.shape} in {row.format}")
        self._records.write((self._key(passage), row.tobytes()) for passage, row in zip(passages, rows, strict=True))

    def encode(self, passages: Passages, encode: Encode, on_encoded: OnEncoded | None = None) -> Rows:
        """The concatenated rows (M, E) of all passages; those that are missing are encoded in batches and stored.

        An error of `encode` or `on_encoded` loses no batch that was encoded before.
        """
        rows = {tuple(passage): stored for passage, stored in zip(passages, self.get(passages), strict=True)}
        missing = [passage for passage, stored in rows.items() if stored is None]
        done = 0
        for batch in _batches(missing, ENCODE_TOKENS):
            new = encode(batch).split([self._rows(passage) for passage in batch])
            self.put(batch, new)
            rows.update(zip(map(tuple, batch), new, strict=True))
            done += len(batch)
            if on_encoded:
                on_encoded(done, len(missing))
        pieces = [piece for passage in passages if (piece := rows[tuple(passage)]) is not None]  # none is missing now
        return concatenate(pieces, self.width, self.format)

    def fill(
        self,
        passages: Iterable[Sequence[int]],
        encode_batches: EncodeBatches,
        on_progress: Callable[[int], object] = lambda _: None,
        *,
        batch_tokens: int = FILL_TOKENS,
    ) -> FillResult:
        """Encode and store missing passages until the cache is full.

        Args:
            passages: token ids of any number of passages, read as needed.
            encode_batches: encodes batches, in any order.
            on_progress: called with the number of passages just processed.
            batch_tokens: tokens per batch; a longer passage is a batch of its own.
        """
        encoded = present = size = 0
        complete = True

        def missing() -> Iterator[Passages]:
            nonlocal present, size, complete
            for batch in _batches(passages, batch_tokens):
                size += sum(record_bytes(self._rows(passage) * row_bytes(self.width, self.format)) for passage in batch)
                # beyond this size, new passages would evict earlier ones
                complete = self._records.writable and size <= self._records.protected_bytes
                if not complete:
                    return
                keys = {self._key(passage): passage for passage in batch}
                stored = self._records.touch(list(keys))
                new = [passage for key, passage in keys.items() if key not in stored]
                if len(new) < len(batch):
                    present += len(batch) - len(new)
                    on_progress(len(batch) - len(new))
                if new:
                    yield new

        for batch, rows in encode_batches(missing()):
            self.put(batch, rows.split([self._rows(passage) for passage in batch]))
            encoded += len(batch)
            on_progress(len(batch))
        return FillResult(encoded, present, complete and self._records.writable)

    def _rows(self, passage: Sequence[int]) -> int:
        return -(-len(passage) // self._tokens_a_row)

    def _key(self, passage: Sequence[int]) -> bytes:
        return hashlib.sha256(self._name + np.asarray(passage, "<i8").tobytes()).digest()


def each_batch(encode: Encode) -> EncodeBatches:
    """Encode batches one after another, for `PassageStore.fill`."""
    return lambda batches: ((batch, encode(batch)) for batch in batches)


def _batches(passages: Iterable[Sequence[int]], max_tokens: int) -> Iterator[list[Sequence[int]]]:
    """Consecutive passages of at most `max_tokens` tokens in total, or a single longer one."""
    batch: list[Sequence[int]] = []
    tokens = 0
    for passage in passages:
        if batch and tokens + len(passage) > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(passage)
        tokens += len(passage)
    if batch:
        yield batch
