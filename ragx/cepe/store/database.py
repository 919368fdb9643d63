"""The SQLite database of the record store: its tables, its connection, and what its errors mean."""

from __future__ import annotations

import sqlite3

LOCK_SECONDS = 5.0
PAGE_BYTES = 16_384
"""Measured with payloads of 150 kB: smaller pages are slower to read, larger ones slower to write."""
SCHEMA = (
    "CREATE TABLE payloads(id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, payload BLOB NOT NULL)",
    # separate from the payloads, so that marking a record as used does not rewrite its payload
    "CREATE TABLE records(key BLOB PRIMARY KEY, id INTEGER NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE INDEX by_use ON records(used, size)",
)
FAILURES = (sqlite3.Error, UnicodeDecodeError, OverflowError)
"""Errors of any statement; the last two occur when a damaged database yields impossible values."""
_ENVIRONMENT = {
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
"""Result codes caused by the disk or other processes rather than by damage."""


def connect(uri: str) -> sqlite3.Connection:
    """Open the database at `uri`, creating its tables.

    Raises:
        FAILURES: it cannot be opened, or is damaged; see `is_damage`.
    """
    database = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cell_size_check = ON")  # detect damaged pages when they are read
        if not _schema(database):
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            with database:
                database.execute("BEGIN IMMEDIATE")
                if not _schema(database):  # unless another process was faster
                    for statement in SCHEMA:
                        database.execute(statement)
        if _schema(database) != SCHEMA:  # a flipped bit can give another valid schema
            raise sqlite3.DatabaseError("unexpected tables")
    except BaseException:
        database.close()
        raise
    return database


def _schema(database: sqlite3.Connection) -> tuple[str, ...]:
    rows = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    return tuple(sql for (sql,) in rows)


def is_damage(error: Exception) -> bool:
    """Whether a new database is needed: this one is damaged, or was replaced or deleted."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # not set on errors that Python finds
    return code == sqlite3.SQLITE_READONLY_DBMOVED or code & 0xFF not in _ENVIRONMENT
