"""Files of rows: JSON lines, Parquet and DPR passages (tab-separated). A bad row is skipped, the rest is read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.corpus.document import MAX_ID_CHARS, Document, Skipped, normalise, one_line
from ragx.util.compressed import bomb, unpacked_limit
from ragx.util.jsonlines import MAX_LINE_BYTES, BadLine, read_lines, read_objects
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import pyarrow

PARQUET_ROWS = 1024
"""Rows of a Parquet file in memory at a time."""
_PARQUET_BYTES = 1 << 20
"""Bytes read at a time from each column of a Parquet file."""


def row_document(id: object, title: object, text: object, source: str) -> Document | str:
    """A row as a document, or the reason why it is not one. An id may be an integer; a title may be None."""
    if not isinstance(id, str | int) or isinstance(id, bool) or id == "":
        return "has no id" if id is None or id == "" else "its id is neither text nor an integer"
    if len(str(id)) > MAX_ID_CHARS:
        return f"its id is longer than {MAX_ID_CHARS:,} characters"
    if not isinstance(title, str | None):
        return "its title is not text"
    if not isinstance(text, str):
        return "has no text" if text is None else "its text is not text"
    return Document(without_surrogates(str(id)), normalise(one_line(title or "")), normalise(text), source)


def read_jsonl(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Document | Skipped]:
    """One JSON object per line with `id`, `text` and optionally `title`; UTF-8, optionally compressed."""
    for number, row in read_objects(path, max_line_bytes):
        if isinstance(row, BadLine):
            yield _skipped(path, number, row)
            continue
        document = row_document(row.get("id"), row.get("title"), row.get("text"), str(path))
        yield Skipped(f"{path}:{number}", document) if isinstance(document, str) else document


def _skipped(path: Path, number: int, line: BadLine) -> Skipped:
    return Skipped(str(path) if line.unreadable else f"{path}:{number}", one_line(line.reason), line.unreadable)


def read_dpr(path: Path) -> Iterator[Document | Skipped]:
    """DPR passages: tab-separated `id`, `text` and `title` after a header line, quoted as CSV. They are not chunked."""
    bad_lines: list[Skipped] = []
    rows = csv.reader(_decoded(path, bad_lines), delimiter="\t")
    next(rows, None)  # the header
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Skipped(f"{path}:{rows.line_num}", f"is not a tab-separated row: {one_line(str(error))}")
            continue
        yield from bad_lines
        bad_lines.clear()
        if row is None:
            return
        if len(row) == 3:
            id, text, title = row
            document = row_document(id, title, text, str(path))
            whole = replace(document, whole=True) if isinstance(document, Document) else document
        else:
            whole = f"has {len(row)} columns, not 3"
        if row:
            yield Skipped(f"{path}:{rows.line_num}", whole) if isinstance(whole, str) else whole


def _decoded(path: Path, bad_lines: list[Skipped]) -> Iterator[str]:
    for number, line in read_lines(path):
        if isinstance(line, BadLine):
            bad_lines.append(_skipped(path, number, line))
            continue
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            bad_lines.append(Skipped(f"{path}:{number}", "is not UTF-8"))


def read_parquet(path: Path, batch_rows: int = PARQUET_ROWS) -> Iterator[Document | Skipped]:
    """A Parquet file with the columns `id`, `text` and optionally `title`. Rows are numbered from 1."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        packed = path.stat().st_size
        left = unpacked_limit(packed)
        with pyarrow.parquet.ParquetFile(path, buffer_size=_PARQUET_BYTES) as file:
            columns = [name for name in ("id", "title", "text") if name in file.schema_arrow.names]
            if missing := {"id", "text"}.difference(columns):
                yield Skipped(str(path), f"has no column {' and no column '.join(sorted(missing))}")
                return
            for batch in file.iter_batches(batch_rows, columns=columns, use_threads=False):
                for index in range(batch.num_rows):
                    row = _parquet_row(batch, index, str(path))
                    left -= len(row.text) if isinstance(row, Document) else 0
                    if left < 0:
                        raise OSError(bomb(packed))
                    number += 1
                    yield Skipped(f"{path}:{number}", row) if isinstance(row, str) else row
    except (pyarrow.ArrowException, OSError) as error:
        where = f" beyond row {number}" if number else ""
        yield Skipped(str(path), f"cannot be read{where}: {one_line(str(error))}", unreadable=True)


def _parquet_row(batch: pyarrow.RecordBatch, index: int, source: str) -> Document | str:
    try:
        row = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        return "is not UTF-8"
    return row_document(row["id"], row.get("title"), row["text"], source)
