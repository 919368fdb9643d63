"""Files of rows: JSON lines, Parquet, tables of texts and DPR passages. A bad row is skipped, the rest is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.corpus.delimited import records
from ragx.corpus.document import MAX_ID_CHARS, Document, Skipped, normalise, one_line
from ragx.corpus.fields import ID_FIELDS, id_field, text_field
from ragx.corpus.formats import row_delimiter
from ragx.corpus.metadata import plain_fields
from ragx.util.compressed import bomb, open_bytes, unpacked_limit
from ragx.util.jsonlines import MAX_LINE_BYTES, BadLine, read_lines, read_objects
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import pyarrow

PARQUET_ROWS = 1024
"""Rows of a Parquet file in memory at a time."""
_PARQUET_BYTES = 1 << 20
"""Bytes read at a time from each column of a Parquet file."""


_NO_ID, _NO_TEXT = "has no id", "has no text"
MAX_TITLE_CHARS = 200
"""A longer first line of `contents` is no title."""


def row_document(id: object, title: object, text: object, source: str) -> Document | str:
    """A row as a document, or the reason why it is not one. An id may be an integer; a title may be None."""
    if not isinstance(id, str | int) or isinstance(id, bool) or id == "":
        return _NO_ID if id is None or id == "" else "its id is neither text nor an integer"
    if len(str(id)) > MAX_ID_CHARS:
        return f"its id is longer than {MAX_ID_CHARS:,} characters"
    if not isinstance(title, str | None):
        return "its title is not text"
    if not isinstance(text, str):
        return _NO_TEXT if text is None else "its text is not text"
    return Document(without_surrogates(str(id)), normalise(one_line(title or "")), normalise(text), source)


def field_document(row: Mapping[str, object], source: str) -> Document | str:
    """As `row_document`, from the fields of a row (see `fields`); further fields become metadata."""
    id_name = next((name for name in ID_FIELDS if row.get(name) not in (None, "")), "id")
    text_name = text_field([name for name, value in row.items() if value is not None]) or "text"
    title, text = row.get("title"), row.get(text_name)
    if text_name == "contents" and not title and isinstance(text, str):
        title, text = _titled(text)
    document = row_document(row.get(id_name), title, text, source)
    if isinstance(document, str):
        if (wanted := {_NO_ID: "id", _NO_TEXT: "text"}.get(document)) is None:
            return document
        return f"{document}: {_its_fields(row)}" + (f"; rename one to {wanted}" if wanted not in row else "")
    rest = {name: value for name, value in row.items() if name not in (id_name, "title", text_name)}
    fields = plain_fields(rest) if rest else {}
    return replace(document, metadata=json.dumps(fields, ensure_ascii=False)) if fields else document


def _its_fields(names: Iterable[str]) -> str:
    return f"its fields are {one_line(', '.join(names), 200) or 'none'}"


def _titled(contents: str) -> tuple[str, str]:
    """Title and text of Pyserini's and FlashRAG's `contents`."""
    first, _, rest = contents.lstrip("\n").partition("\n")
    title = first.strip()
    if not rest.strip() or len(title) > MAX_TITLE_CHARS:
        return "", contents
    quoted = len(title) > 2 and title[0] == title[-1] == '"'
    return title[1:-1] if quoted else title, rest.lstrip("\n")


def read_jsonl(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Document | Skipped]:
    """One JSON object per line (see `field_document`); UTF-8, optionally compressed."""
    return _numbered(path, _json_rows(path, max_line_bytes))


def _json_rows(path: Path, max_line_bytes: int) -> Iterator[tuple[int, Document | Skipped | str]]:
    for number, row in read_objects(path, max_line_bytes):
        yield number, _skipped(path, number, row) if isinstance(row, BadLine) else field_document(row, str(path))


def _skipped(path: Path, number: int, line: BadLine) -> Skipped:
    return Skipped(str(path) if line.unreadable else f"{path}:{number}", one_line(line.reason), line.unreadable)


def _numbered(path: Path, rows: Iterable[tuple[int, Document | Skipped | str]]) -> Iterator[Document | Skipped]:
    """The documents of rows, and those skipped. All that lack a text or an id give the reason of the first."""
    reasons: dict[str, str] = {}
    for number, row in rows:
        if isinstance(row, str):
            problem = row.partition(":")[0]
            reason = reasons.setdefault(problem, row) if problem in (_NO_ID, _NO_TEXT) else row
            yield Skipped(f"{path}:{number}", reason)
        else:
            yield row


def read_dpr(path: Path) -> Iterator[Document | Skipped]:
    """DPR passages: tab-separated `id`, `text` and `title` after a header line, quoted as CSV. They are not chunked."""
    return _numbered(path, _dpr_rows(path))


def _dpr_rows(path: Path) -> Iterator[tuple[int, Document | Skipped | str]]:
    for number, row in _records(path, "\t", 3):
        if not isinstance(row, list):
            yield number, row
        elif len(row) != 3:
            yield number, f"has {len(row)} columns, not 3"
        else:
            id, text, title = row
            document = row_document(id, title, text, str(path))
            yield number, replace(document, whole=True) if isinstance(document, Document) else document


def read_csv(path: Path) -> Iterator[Document | Skipped]:
    """A table whose header names a column of ids and one of texts (see `field_document`)."""
    return _numbered(path, _csv_rows(path))


def _csv_rows(path: Path) -> Iterator[tuple[int, Document | Skipped | str]]:
    with open_bytes(path) as file:
        header = file.readline(MAX_LINE_BYTES).decode("utf-8-sig", "replace")
    delimiter, names = row_delimiter(header.rstrip("\r\n"))
    for number, row in _records(path, delimiter, len(names)):
        if not isinstance(row, list):
            yield number, row
        elif len(row) != len(names):
            yield number, f"has {len(row)} columns, not {len(names)}"
        else:
            fields = {name: value for name, value in zip(names, row, strict=True) if value}
            yield number, field_document(fields, str(path))


def _records(path: Path, delimiter: str, width: int) -> Iterator[tuple[int, list[str] | Skipped | str]]:
    """The rows below the header, and the numbers of their last lines."""
    bad_lines: list[tuple[int, Skipped]] = []
    rows = records(_decoded(path, bad_lines), delimiter, width)
    next(rows, None)  # the header
    for number, row in rows:
        yield from bad_lines
        bad_lines.clear()
        yield number, row
    yield from bad_lines


def _decoded(path: Path, bad_lines: list[tuple[int, Skipped]]) -> Iterator[tuple[int, str]]:
    for number, line in read_lines(path):
        if isinstance(line, BadLine):
            bad_lines.append((number, _skipped(path, number, line)))
            continue
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            bad_lines.append((number, Skipped(f"{path}:{number}", "is not UTF-8")))


def read_parquet(path: Path, batch_rows: int = PARQUET_ROWS) -> Iterator[Document | Skipped]:
    """A Parquet file (see `field_document`). Rows are numbered from 1."""
    return _numbered(path, _parquet_rows(path, batch_rows))


def _parquet_rows(path: Path, batch_rows: int) -> Iterator[tuple[int, Document | Skipped | str]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        left = limit = unpacked_limit(path.stat().st_size)
        with pyarrow.parquet.ParquetFile(path, buffer_size=_PARQUET_BYTES) as file:
            names = file.schema_arrow.names
            if id_field(names) is None or text_field(names) is None:
                lacks = "text" if text_field(names) is None else "id"
                yield 0, Skipped(str(path), f"has no column {lacks}: its columns are {one_line(', '.join(names), 200)}")
                return
            columns = [field.name for field in file.schema_arrow if _is_plain(field.type)]
            for batch in file.iter_batches(batch_rows, columns=columns, use_threads=False):
                for index in range(batch.num_rows):
                    row = _parquet_row(batch, index, str(path))
                    left -= len(row.text) + len(row.metadata) if isinstance(row, Document) else 0
                    if left < 0:
                        raise OSError(bomb(limit))
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        where = f" beyond row {number}" if number else ""
        yield 0, Skipped(str(path), f"cannot be read{where}: {one_line(str(error))}", unreadable=True)


def _is_plain(type: pyarrow.DataType) -> bool:
    """Whether a column holds texts, numbers or dates, not vectors or images."""
    from pyarrow import types

    value = type.value_type if types.is_dictionary(type) else type
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(test(value) for test in (*tests, types.is_temporal))


def _parquet_row(batch: pyarrow.RecordBatch, index: int, source: str) -> Document | str:
    try:
        row = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        return "is not UTF-8"
    return field_document(row, source)
