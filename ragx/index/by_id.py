"""ById: find passages by id without reading all ids at each lookup."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from ragx.index.index import Index
from ragx.index.passages import column
from ragx.types import Passage


class HashTable:
    """Rows by a 64-bit hash; takes 16 bytes per row. Different keys may have the same hash."""

    def __init__(self, hashes: np.ndarray, rows: np.ndarray) -> None:
        """Sort hashes and rows, (n,) int64 each."""
        order = np.argsort(hashes)
        self._hashes, self._rows = hashes[order], rows[order]

    def rows(self, hashes: Iterable[int]) -> list[int]:
        """The rows with one of these hashes, in ascending order."""
        wanted = np.fromiter(hashes, np.int64)
        spans = zip(*(np.searchsorted(self._hashes, wanted, side=side) for side in ("left", "right")), strict=True)
        return sorted({row for first, last in spans for row in self._rows[first:last].tolist()})


class ById:
    """A hash of every id."""

    def __init__(self, index: Index) -> None:
        """Read the ids of all passages that are not deleted."""
        self._index = index
        shards = [column(shard.passages, "id") for shard in index.shards]
        hashes = [np.fromiter((hash(id) for id in ids.to_pylist()), np.int64, len(ids)) for ids in shards]
        rows = index.rows()
        self._table = HashTable(np.concatenate([np.empty(0, np.int64), *hashes])[rows], rows)

    def find(self, ids: Collection[str]) -> dict[str, tuple[int, Passage]]:
        """Rows and passages by id, without unknown ids."""
        rows = self._table.rows(map(hash, ids))
        passages = zip(rows, self._index.passages(rows), strict=True)
        return {passage.id: (row, passage) for row, passage in passages if passage.id in ids}

    def rows(self, ids: Collection[str]) -> list[int]:
        """The rows of the passages with these ids, without unknown ids."""
        return [row for row, _ in self.find({*ids}).values()]
