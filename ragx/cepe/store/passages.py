"""Encode passages once: stored rows are read, the others are encoded and stored."""

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
"""Tokens that `fill` encodes in one batch by default."""

Passages = Sequence[Sequence[int]]
"""Token ids of each passage."""
EncodeBatches = Callable[[Iterable[Passages]], Iterable[tuple[Passages, Rows]]]
"""Yields each batch of passages with all their rows, in any order; see `encode_rows`."""


@dataclass(frozen=True)
class Stats:
    """Counts of passages requested since the store was opened."""

    hits: int
    misses: int
    dropped: int
    """Damaged encodings, which are among the misses."""


@dataclass(frozen=True)
class Filled:
    """What `PassageStore.fill` did."""

    encoded: int
    present: int
    complete: bool
    """False if the cache is too small for all passages or cannot be written."""


class PassageStore:
    """Encodings of passages by token ids, for one reader.

    Several processes and threads may share a folder, and so may several readers: a row is found again only under the
    fingerprint, width and format it was stored with. What the disk refuses is encoded instead, never an error.
    """

    def __init__(
        self, folder: Path, fingerprint: str, width: int, *, format: Format = "bfloat16", max_bytes: int
    ) -> None:
        """Open the store in `folder`, creating it if necessary.

        Args:
            folder: the encodings of all readers.
            fingerprint: identifies the encoder, tokenizer and number format.
            width: E of the encoder.
            format: how rows are stored; see `rows`.
            max_bytes: bound on the database's size; the least recently used passages are evicted. 0 writes nothing.
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
        """The stored rows (L, E) of each passage, or None where it is not stored."""
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
            ValueError: their shape is not that of the passage.
        """
        self._put(passages, [pack(states, self.format) for states in vectors])

    def encode(self, model: CepeModel, passages: Passages) -> Context:
        """Φ (1, M, E) of one question's passages, in the model's number format, or int8 from an int8 store.

        Missing passages are encoded in one batch and stored. They are used in the stored format, so that the answer is
        the same whether a passage was stored before or not.
        """
        found = self.get(passages)
        rows = {tuple(passage): stored for passage, stored in zip(passages, found, strict=True)}
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
    ) -> Filled:
        """Encode and store the missing passages; stop when the cache cannot keep more.

        Args:
            model: the reader with this `fingerprint`.
            passages: token ids of each; any number of passages, read as needed.
            on_progress: called with the number of passages just finished.
            encode: encodes batches, in any order; None: `model` does.
            batch_tokens: tokens encoded in one batch; a longer passage is a batch of its own.
        """
        encoded = present = size = 0
        complete = True

        def missing() -> Iterator[Passages]:
            nonlocal present, size, complete
            for batch in _batches(passages, batch_tokens):
                size += sum(record_bytes(len(passage) * row_bytes(self.width, self.format)) for passage in batch)
                # beyond this, new passages would evict those stored before
                complete = self._records.writable and size <= self._records.kept_bytes
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

        def here(batches: Iterable[Passages]) -> Iterator[tuple[Passages, Rows]]:
            return ((batch, encode_rows(model, batch, self.format)) for batch in batches)

        for batch, rows in (encode or here)(missing()):
            self._put(batch, rows.split([len(passage) for passage in batch]))
            encoded += len(batch)
            on_progress(len(batch))
        return Filled(encoded, present, complete and self._records.writable)

    def _key(self, passage: Sequence[int]) -> bytes:
        return hashlib.sha256(self._name + np.asarray(passage, "<i8").tobytes()).digest()

    def _encode(self, model: CepeModel, passages: Passages) -> list[Rows]:
        if not passages:
            return []
        rows = encode_rows(model, passages, self.format).split([len(passage) for passage in passages])
        self._put(passages, rows)
        return rows

    def _put(self, passages: Passages, rows: Sequence[Rows]) -> None:
        for passage, kept in zip(passages, rows, strict=True):
            if kept.values.shape != (len(passage), self.width):
                raise ValueError(f"rows of shape {tuple(kept.values.shape)} for {len(passage)} tokens of {self.width}")
        self._records.write((self._key(passage), kept.tobytes()) for passage, kept in zip(passages, rows, strict=True))


def encode_rows(model: CepeModel, passages: Passages, format: Format) -> Rows:
    """The rows of all passages (M, E) in the stored format, concatenated; encoded in one batch."""
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
