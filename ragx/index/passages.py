"""Passages on disk: one Arrow IPC file per shard, memory-mapped and read by row."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import REPAIR_ADVICE, CorpusError, IndexFolderError
from ragx.types import Passage
from ragx.util.files import durable_file
from ragx.util.text import without_surrogates

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BATCH = 8192
CHARACTERS_PER_BATCH = 16_000_000
_PATH = b"path"
_FIELDS = attrgetter(*(field.name for field in fields(Passage)))


def passage_line(passage: Passage) -> bytes:
    """All fields of a passage in the form that is hashed (`indexes/README.md`)."""
    return json.dumps(_FIELDS(passage)).encode("ascii") + b"\n"


def write_passages(passages: Iterable[Passage], path: Path) -> tuple[int, str]:
    """Write the passages durably, in batches.

    Returns:
        Their number, and the SHA-256 of all their fields in order (`indexes/README.md`).

    Raises:
        CorpusError: a passage is not valid Unicode.
        IndexFolderError: the file cannot be written.
    """
    import pyarrow as pa

    schema = _schema()
    number = 0
    digest = hashlib.sha256()
    with durable_file(path) as file, pa.ipc.new_file(file, schema) as writer:
        for batch in _batches(passages):
            for passage in batch:
                digest.update(passage_line(passage))
            try:
                columns = [[getattr(passage, name) for passage in batch] for name in schema.names]
                writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
            except UnicodeEncodeError:
                invalid = next(passage for passage in batch if not _is_unicode(passage))
                raise CorpusError(f"passage {invalid.id!a} is not valid Unicode: it has a lone surrogate") from None
            number += len(batch)
    return number, digest.hexdigest()


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    batch: list[Passage] = []
    characters = 0
    for passage in passages:
        batch.append(passage)
        characters += len(passage.text) + len(passage.metadata)
        if len(batch) == ROWS_PER_BATCH or characters >= CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def open_passages(path: Path) -> pa.Table:
    """Memory-map a passages file, without reading it; the functions below check the parts that they read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an Arrow file of passages.
    """
    import pyarrow as pa

    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if table.schema != _schema():
        raise ValueError(f"{path} holds no passages")
    return table.replace_schema_metadata({_PATH: str(path)})


def _schema() -> pa.Schema:
    import pyarrow as pa

    # large_string: a batch may exceed 2 GiB, the limit of 32-bit offsets
    types = {"str": pa.large_string(), "int": pa.int64()}
    return pa.schema([pa.field(field.name, types[str(field.type)], nullable=False) for field in fields(Passage)])


def passage_at(table: pa.Table, row: int) -> Passage:
    """The passage in a row of the table.

    Raises:
        IndexFolderError: the table is damaged, as for all functions that read it; Arrow itself would crash.
    """
    return Passage(**_checked(table.slice(row, 1)).to_pylist()[0])


def all_passages(table: pa.Table) -> Iterator[Passage]:
    """All passages of the table in order, one batch in memory at a time."""
    for batch in table.to_batches():
        yield from (Passage(**row) for row in _checked(batch).to_pylist())


def column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """One field of all passages."""
    return _checked(table.select([name]))[name]


def numbered(tables: Sequence[pa.Table], name: str) -> tuple[list[Any], np.ndarray]:
    """The distinct values of a field in all these tables, and the number of each passage's value, (n,)."""
    import pyarrow as pa

    kind = _schema().field(name).type
    chunks: list[pa.Array] = [pa.array([], kind)]
    for table in tables:
        chunks += column(table, name).chunks
    encoded = pa.chunked_array(chunks, kind).dictionary_encode().unify_dictionaries()
    return encoded.chunk(0).dictionary.to_pylist(), np.concatenate(
        [chunk.indices.to_numpy() for chunk in encoded.chunks]
    )


def passages_at(table: pa.Table, rows: Sequence[int]) -> Iterator[Passage]:
    """The passages in these rows, in ascending order, one batch in memory at a time.

    A table's own `take` would first copy whole columns.
    """
    offset = done = 0
    for batch in table.to_batches():
        offset, first = offset + len(batch), offset
        done, start = bisect_left(rows, offset, lo=done), done
        if start < done:
            selected = _checked(batch).take([row - first for row in rows[start:done]])
            yield from (Passage(**row) for row in selected.to_pylist())


def _checked(part: pa.Table | pa.RecordBatch) -> Any:
    """Return a part of a table after checking that its offsets are in range and its text is valid Unicode."""
    import pyarrow as pa

    try:
        part.validate(full=True)
    except pa.ArrowInvalid:
        raise IndexFolderError(f"{part.schema.metadata[_PATH].decode()} is damaged: {REPAIR_ADVICE}") from None
    return part


def _is_unicode(passage: Passage) -> bool:
    text = "".join(map(str, astuple(passage)))
    return text == without_surrogates(text)
