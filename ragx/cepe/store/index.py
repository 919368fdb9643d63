"""The index of the segments: an SQLite file that says where each record is and in which order records were used.

It can always be made again from the segments, so nothing waits for the disk (`synchronous = OFF`): a crash of the
process leaves it whole, a power cut may damage it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from ragx.cepe.store import segment

LOCK_SECONDS = 5.0
SCHEMA = (
    "CREATE TABLE segments(id INTEGER PRIMARY KEY, size INTEGER NOT NULL)",
    "CREATE TABLE records(key BLOB PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL,"
    " size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX by_use ON records(used, size)",
)
FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What any use of the index may raise; the second where SQLite quotes a damaged schema in its message."""
ENVIRONMENT = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
}
"""Result codes that tell of the disk or of other processes, not of damage."""


def connect(path: Path | str, folder: Path) -> sqlite3.Connection:
    """Open the index at `path`; one without tables gets them, filled from the segments in `folder`.

    Raises:
        FAILURES: it cannot be opened or is damaged; see `is_damage`.
        OSError: the folder cannot be read.
    """
    index = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        index.execute("PRAGMA synchronous = OFF")
        if not _has_tables(index):
            with index:
                index.execute("BEGIN IMMEDIATE")
                if not _has_tables(index):  # another process may have been faster
                    _make(index, folder)
    except BaseException:
        index.close()
        raise
    return index


def is_damage(error: Exception) -> bool:
    """Whether making the index again helps: it is damaged, or is not the one at its path any more."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # UnicodeDecodeError has none
    return code == sqlite3.SQLITE_READONLY_DBMOVED or code & 0xFF not in ENVIRONMENT


def _has_tables(index: sqlite3.Connection) -> bool:
    return index.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _make(index: sqlite3.Connection, folder: Path) -> None:
    for statement in SCHEMA:
        index.execute(statement)
    used = 0
    for path, size in _segments(folder):
        number = int(path.stem, 16)
        index.execute("INSERT INTO segments VALUES(?, ?)", (number, segment.aligned(size)))
        for key, offset, record_size in segment.records(path):
            used += 1
            row = (key, number, offset, record_size, used)
            index.execute("INSERT OR REPLACE INTO records VALUES(?, ?, ?, ?, ?)", row)


def _segments(folder: Path) -> list[tuple[Path, int]]:
    """Readable segments with their sizes, the one written to longest ago first."""
    found = []
    for number in segment.numbers(folder):
        path = segment.path(folder, number)
        with contextlib.suppress(OSError), path.open("rb") as file:  # deleted meanwhile, or not for us to read
            status = os.fstat(file.fileno())
            found.append((status.st_mtime_ns, path, status.st_size))
    return [(path, size) for _, path, size in sorted(found)]
