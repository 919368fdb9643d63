"""BySource: find passages by the file or dataset they came from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ragx.index.index import Index
from ragx.index.passages import all_passages, numbered
from ragx.types import Passage


class BySource:
    """Reads the passages of one source without the others; takes 8 bytes per passage."""

    def __init__(self, index: Index) -> None:
        """Sort the rows of all passages that are not deleted."""
        self._shards = index.shards
        self._offsets = [shard.offset for shard in index.shards]
        self._rows = index.rows()
        self._spans: dict[str, tuple[int, int]] = {}
        if not len(self._rows):
            return
        tables = [shard.passages for shard in index.shards]
        names, sources = numbered(tables, "source")
        _, documents = numbered(tables, "document")
        positions = np.concatenate([shard.passages["position"].to_numpy() for shard in index.shards])
        order = np.lexsort([column[self._rows] for column in (positions, documents, sources)])
        self._rows = self._rows[order]
        ends = np.searchsorted(sources[self._rows], np.arange(len(names)), side="right").tolist()
        self._spans = dict(zip(names, zip([0, *ends], ends, strict=False), strict=True))

    def passages(self, source: str) -> Iterator[Passage]:
        """The passages of one source, grouped by document and sorted by position; none if the source is unknown."""
        rows = self._rows[slice(*self._spans.get(source, (0, 0)))]
        if not len(rows):
            return
        shards = np.searchsorted(self._offsets, rows, side="right") - 1
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shards) != 0)) + 1
        starts = [0, *breaks.tolist()]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            shard = self._shards[shards[start]]
            # `slice`, because `take` copies the column
            yield from all_passages(shard.passages.slice(int(rows[start]) - shard.offset, end - start))
