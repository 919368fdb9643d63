"""Records of the files that an update need not parse again: `sources.jsonl` in a generation (`indexes/README.md`).

A file is recorded if the index holds every passage that it gives: nothing of it was skipped, none of its passages
repeated another, and each of its documents gave one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from ragx.config import Chunking, Settings
from ragx.corpus import parsing_version
from ragx.index import Index
from ragx.index.manifest import SOURCES


class FileRecord(Settings):
    """A file whose passages are all in the index."""

    source: str
    name: str
    """The id of its document, unless it holds rows or pages."""
    sha256: str
    modified: int
    """Seconds since 1970, which the metadata of its passages tell."""


class Header(Settings):
    """The first line of `sources.jsonl`."""

    reading: str
    """The `reading_version` that read the files."""


def reading_version(chunking: Chunking, embedder: str) -> str:
    """SHA-256 of what decides, beside a file's bytes and name, which passages it gives. `embedder`: its fingerprint."""
    return hashlib.sha256(json.dumps([parsing_version(), chunking.model_dump(), embedder]).encode()).hexdigest()


def read_records(index: Index) -> tuple[str, dict[str, FileRecord]]:
    """The `reading_version` that read the files of an index, and their records by source.

    Empty where there are none, they are damaged, or they are of the older formats 1 to 3.
    """
    entry = index.manifest.files.get(SOURCES)
    if entry is None:
        return "", {}
    try:
        data = (index.folder / index.generation / SOURCES).read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            return "", {}
        header, *lines = data.splitlines()
        records = [FileRecord.model_validate_json(line) for line in lines]
        return Header.model_validate_json(header).reading, {record.source: record for record in records}
    except (OSError, ValueError):
        return "", {}


def record_lines(reading: str, records: Iterable[FileRecord]) -> Iterator[bytes]:
    """The lines of `sources.jsonl`."""
    yield Header(reading=reading).model_dump_json().encode() + b"\n"
    for record in sorted(records, key=lambda record: record.source):
        yield record.model_dump_json().encode() + b"\n"
