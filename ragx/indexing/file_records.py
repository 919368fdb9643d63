"""What an update knows of the files of an index: `sources.jsonl` in a generation (`indexes/README.md`).

- A file is recorded if the index holds every passage that it gives and that was not deleted: no row of it was skipped,
  none of its passages repeated another, and each of its documents gave one. An update need not parse it again, and
  reports from the record what its documents lack.
- Documents that a user deleted stay deleted until their file changes.
- What was skipped is listed by `ragx index docs --skipped`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice

from pydantic import TypeAdapter

from ragx.config import Chunking
from ragx.corpus import Skipped, parsing_version
from ragx.index import Index
from ragx.index.manifest import SOURCES
from ragx.util.settings import Settings

LISTED_SKIPPED = 10_000
"""How much of what was skipped is recorded."""


class Header(Settings):
    """The first line of `sources.jsonl`."""

    reading: str
    """The `reading_version` that read the files."""


class SkippedRecord(Settings):
    """What was not read: the fields of a `Skipped`."""

    source: str
    reason: str
    unreadable: bool
    unsupported: bool
    partial: bool = False


class FileRecord(Settings):
    """A file whose passages are all in the index, but for deleted ones."""

    source: str
    name: str
    """The id of its document, unless it holds rows or pages."""
    sha256: str
    missing: tuple[SkippedRecord, ...] = ()
    """What its documents lack."""


class Deletion(Settings):
    """Documents of a file or dataset that a user deleted."""

    source: str
    sha256: str
    """Of the file; empty for what is no file."""
    deleted: list[str]
    """Ids, sorted."""


@dataclass
class Records:
    """The content of `sources.jsonl`."""

    reading: str = ""
    files: dict[str, FileRecord] = field(default_factory=dict)
    """By source."""
    deletions: dict[str, Deletion] = field(default_factory=dict)
    """By source."""
    skipped: list[Skipped] = field(default_factory=list)

    def lines(self) -> Iterator[bytes]:
        """The lines of the file."""
        entries: Iterable[Settings] = [
            Header(reading=self.reading),
            *(self.files[source] for source in sorted(self.files)),
            *(self.deletions[source] for source in sorted(self.deletions)),
            *(SkippedRecord(**asdict(skipped)) for skipped in islice(self.skipped, LISTED_SKIPPED)),
        ]
        return (entry.model_dump_json().encode() + b"\n" for entry in entries)


_LINE: TypeAdapter[FileRecord | Deletion | SkippedRecord] = TypeAdapter(FileRecord | Deletion | SkippedRecord)


def reading_version(chunking: Chunking, embedder: str) -> str:
    """SHA-256 of what decides, beside a file's bytes and name, which passages it gives. `embedder`: its fingerprint."""
    return hashlib.sha256(json.dumps([parsing_version(), chunking.model_dump(), embedder]).encode()).hexdigest()


def read_records(index: Index) -> Records:
    """The records of an index; empty where there are none, they are damaged, or they are of an older format."""
    entry = index.manifest.files.get(SOURCES)
    if entry is None:
        return Records()
    try:
        data = (index.folder / index.generation / SOURCES).read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            return Records()
        header, *lines = data.splitlines()
        records = Records(Header.model_validate_json(header).reading)
        for line in lines:
            match _LINE.validate_json(line):
                case FileRecord() as file:
                    records.files[file.source] = file
                case Deletion() as deletion:
                    records.deletions[deletion.source] = deletion
                case SkippedRecord() as skipped:
                    records.skipped.append(Skipped(**skipped.model_dump()))
        return records
    except (OSError, ValueError):
        return Records()
