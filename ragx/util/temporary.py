"""Temporary tables that may exceed the memory."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from typing import Any

from ragx.errors import RagxError

CACHED_KIB = 65_536


class TemporaryDatabase:
    """An SQLite database: in memory up to `cached_kib`, beyond that in a temporary file.

    The file lies in `SQLITE_TMPDIR`, `TMPDIR` or the system's folder, has no name and vanishes with its process.

    Raises:
        error_type: the disk is full; the message says that `what` was not stored.
    """

    def __init__(self, table: str, what: str, error_type: type[RagxError], cached_kib: int = CACHED_KIB) -> None:
        self._what, self._error_type = what, error_type
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            f"PRAGMA cache_size = -{cached_kib}",
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            table,
            "BEGIN",
        ):
            self._database.execute(statement)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise self._error_type(
                f"cannot store {self._what} ({error}): free disk space, or set TMPDIR to another disk"
            ) from None


def digest(key: str) -> bytes:
    """16 bytes that stand for a key in a table."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
