"""Passages on disk: one Arrow IPC file a shard, mapped into memory and read row by row."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.errors import CorpusError
from ragx.retrieval.durable import durable_file
from ragx.types import Passage

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BATCH = 8192
CHARACTERS_PER_BATCH = 16_000_000
_FIELDS = attrgetter(*(field.name for field in fields(Passage)))


def embedded_text(passage: Passage) -> str:
    """What is embedded and indexed of a passage: its title, if any, and its text."""
    return f"{passage.title} {passage.text}" if passage.title else passage.text


def passage_line(passage: Passage) -> bytes:
    """All fields of a passage, as digests take them (`indexes/README.md`)."""
    return json.dumps(_FIELDS(passage)).encode("ascii") + b"\n"


def write_passages(passages: Iterable[Passage], path: Path) -> tuple[int, str]:
    """Write the passages durably, a batch at a time.

    Returns:
        How many there are, and the SHA-256 over all their fields in order (`indexes/README.md`).

    Raises:
        CorpusError: a passage holds a character that is not valid Unicode.
        IndexFolderError: the file cannot be written.
    """
    import pyarrow as pa

    # large_string: a batch of whole documents may hold more than the 2 GiB that 32-bit offsets reach.
    types = {"str": pa.large_string(), "int": pa.int64()}
    schema = pa.schema([pa.field(field.name, types[str(field.type)], nullable=False) for field in fields(Passage)])
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
                bad = next(passage for passage in batch if not is_unicode("".join(map(str, astuple(passage)))))
                raise CorpusError(
                    f"passage {bad.id!a} holds a lone surrogate, which is not valid Unicode text"
                ) from None
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
    """Map a passages file into memory.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowInvalid: it is not an Arrow file.
    """
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def passage_at(table: pa.Table, row: int) -> Passage:
    """The passage in a row of the table."""
    return Passage(**{name: table[name][row].as_py() for name in table.column_names})


def all_passages(table: pa.Table) -> Iterator[Passage]:
    """Every passage of the table, in order; one batch of them is in memory."""
    for batch in table.to_batches():
        yield from (Passage(**row) for row in batch.to_pylist())


def passages_at(table: pa.Table, rows: Sequence[int]) -> Iterator[Passage]:
    """The passages in these rows, which ascend; those of one batch are in memory.

    A table's own `take` would copy whole columns first.
    """
    offset = done = 0
    for batch in table.to_batches():
        offset, first = offset + len(batch), offset
        done, start = bisect_left(rows, offset, lo=done), done
        if start < done:
            wanted = batch.take([row - first for row in rows[start:done]])
            yield from (Passage(**row) for row in wanted.to_pylist())


def is_unicode(text: str) -> bool:
    """Whether the text is without lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
