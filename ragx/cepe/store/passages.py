"""PassageStore: read stored encodings, encode and store the missing ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ragx.cepe.context import Context
from ragx.cepe.store.records import RecordStore, record_bytes
from ragx.cepe.store.rows import Format, Rows, concatenate, pack, row_bytes, unpack

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel

FILL_TOKENS = 16_384
"""Tokens per batch in `fill`."""

Passages = Sequence[Sequence[int]]
"""Token ids of each passage."""
EncodeBatches = Callable[[Iterable[Passages]], Iterable[tuple[Passages, Rows]]]
"""Takes batches of passages and yields each with all its rows, in any order; see `encode_rows`."""


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
        self, folder: Path, fingerprint: str, width: int, *, format: Format = "bfloat16", max_bytes: int
    ) -> None:
        """Open the store in `folder`, creating it if necessary.

        Args:
            folder: holds the encodings of all readers.
            fingerprint: identifies the encoder, tokenizer and number format.
            width: the encoder's E.
            format: number format of stored rows.
            max_bytes: maximum size of the database; the least recently used passages are evicted. 0 writes nothing.
        """
        self.width = width
        self.format: Format = format
        self._name = hashlib.sha256(f"{fingerprint}\n{width}\n{format}".encode()).digest()
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
        """The rows (L, E) of each passage, or None if it is not stored."""
        payloads = self._records.read([self._key(passage) for passage in passages])
        missing = payloads.count(None)
        self._misses += missing
        self._hits += len(passages) - missing
        return [
            None if payload is None else unpack(payload, len(passage), self.width, self.format)
            for passage, payload in zip(passages, payloads, strict=True)
        ]

    def put(self, passages: Passages, vectors: Sequence[Tensor]) -> None:
        """Store the encoder's last hidden states (L, E) of each passage.

        Raises:
            ValueError: a shape does not match its passage.
        """
        self._put(passages, [pack(states, self.format) for states in vectors])

    def encode(self, model: CepeModel, passages: Passages) -> Context:
        """Φ (1, M, E) of one question's passages, in the model's number format, or int8 from an int8 store.

        Missing passages are encoded in one batch and stored. They are used in the stored format, so that answers do not
        depend on whether a passage was stored before.
        """
        rows = {tuple(passage): stored for passage, stored in zip(passages, self.get(passages), strict=True)}
        missing = [passage for passage, stored in rows.items() if stored is None]
        rows.update(zip(missing, self._encode(model, missing), strict=True))
        pieces = [piece for passage in passages if (piece := rows[tuple(passage)]) is not None]  # none is missing now
        values, scale = concatenate(pieces, self.width, self.format)  # (M, E), (M,)
        weight = model.encoder.norm.weight
        offsets = [[0, *accumulate(len(passage) for passage in passages)]]
        if scale is None:
            context = Context(values.to(weight.device, weight.dtype)[None], offsets=offsets)
        else:
            phi_scale = scale.to(weight.device)[None]  # (1, M)
            context = Context(values.to(weight.device)[None], offsets=offsets, phi_scale=phi_scale)
        return model.ready(context)

    def fill(
        self,
        model: CepeModel,
        passages: Iterable[Sequence[int]],
        on_progress: Callable[[int], object] = lambda _: None,
        encode: EncodeBatches | None = None,
        *,
        batch_tokens: int = FILL_TOKENS,
    ) -> FillResult:
        """Encode and store missing passages until the cache is full.

        Args:
            model: the reader with this store's fingerprint.
            passages: token ids of any number of passages, read as needed.
            on_progress: called with the number of passages just processed.
            encode: encodes batches, in any order; None: with `model`, in this process.
            batch_tokens: tokens per batch; a longer passage is a batch of its own.
        """
        encoded = present = size = 0
        complete = True

        def missing() -> Iterator[Passages]:
            nonlocal present, size, complete
            for batch in _batches(passages, batch_tokens):
                size += sum(record_bytes(len(passage) * row_bytes(self.width, self.format)) for passage in batch)
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

        def encode_here(batches: Iterable[Passages]) -> Iterator[tuple[Passages, Rows]]:
            return ((batch, encode_rows(model, batch, self.format)) for batch in batches)

        for batch, rows in (encode or encode_here)(missing()):
            self._put(batch, rows.split([len(passage) for passage in batch]))
            encoded += len(batch)
            on_progress(len(batch))
        return FillResult(encoded, present, complete and self._records.writable)

    def _key(self, passage: Sequence[int]) -> bytes:
        return hashlib.sha256(self._name + np.asarray(passage, "<i8").tobytes()).digest()

    def _encode(self, model: CepeModel, passages: Passages) -> list[Rows]:
        if not passages:
            return []
        rows = encode_rows(model, passages, self.format).split([len(passage) for passage in passages])
        self._put(passages, rows)
        return rows

    def _put(self, passages: Passages, rows: Sequence[Rows]) -> None:
        for passage, row in zip(passages, rows, strict=True):
            if row.values.shape != (len(passage), self.width):
                raise ValueError(f"rows must be {(len(passage), self.width)}, got {tuple(row.values.shape)}")
        self._records.write((self._key(passage), row.tobytes()) for passage, row in zip(passages, rows, strict=True))


def encode_rows(model: CepeModel, passages: Passages, format: Format) -> Rows:
    """Encode passages in one batch: their concatenated rows (M, E) in the stored format."""
    with torch.no_grad():
        phi = model.encode_passages([list(passage) for passage in passages]).phi[0]  # (M, E)
    return pack(phi, format)


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
