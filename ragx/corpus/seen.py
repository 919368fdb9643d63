"""Seen: a set of keys that may be larger than the memory, for what is met once in a corpus of any size."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

from ragx.errors import CorpusError

CACHED_KIB = 65_536


class Seen:
    """Keys kept in a temporary SQLite database: in memory up to `CACHED_KIB`, beyond that in the folder for such files.

    That folder is `SQLITE_TMPDIR`, `TMPDIR`, or the system's; the file has no name and vanishes with its process. Of a
    key a digest of 16 bytes is kept.

    Raises:
        CorpusError: the disk is full.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            f"PRAGMA cache_size = -{CACHED_KIB}",
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE seen(key BLOB PRIMARY KEY) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)

    def add(self, key: str) -> bool:
        """Add a key; whether it was new."""
        return self._execute("INSERT OR IGNORE INTO seen VALUES(?)", key).rowcount == 1

    def __contains__(self, key: str) -> bool:
        return self._execute("SELECT 1 FROM seen WHERE key = ?", key).fetchone() is not None

    def _execute(self, statement: str, key: str) -> sqlite3.Cursor:
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            return self._database.execute(statement, (digest,))
        except sqlite3.OperationalError as error:
            raise CorpusError(
                f"cannot keep track of what was read ({error}): make room on the disk, or set TMPDIR to another one"
            ) from None
