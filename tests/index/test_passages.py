"""Passages on disk can be read by row, whatever their batches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.index import passages
from ragx.types import Passage


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.data())
def test_any_rows_can_be_read_back(count: int, per_batch: int, data: st.DataObject) -> None:
    written = [
        Passage(id=f"p{n}", document="d", title="t", text=f"text {n}", position=n, start=0, end=6, source="s")
        for n in range(count)
    ]
    rows = sorted(data.draw(st.sets(st.integers(0, count - 1)))) if count else []
    with tempfile.TemporaryDirectory() as folder, patch.object(passages, "ROWS_PER_BATCH", per_batch):
        passages.write_passages(written, Path(folder, "passages.arrow"))
        table = passages.open_passages(Path(folder, "passages.arrow"))
    assert list(passages.all_passages(table)) == written
    assert list(passages.passages_at(table, rows)) == [written[row] for row in rows]
    assert [passages.passage_at(table, row) for row in rows] == [written[row] for row in rows]
