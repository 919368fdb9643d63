"""Seen: a set of keys that may exceed the memory, to find repetitions in a corpus of any size."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

from ragx.errors import CorpusError

CACHED_KIB = 65_536


class Seen:
    """Keys in a temporary SQLite database: in memory up to `cached_kib`, beyond that in a temporary file.

    The file lies in `SQLITE_TMPDIR`, `TMPDIR` or the system's folder, has no name and vanishes with its process. Each
    key is stored as a digest of 16 bytes.

    Raises:
        CorpusError: the disk is full.
    """

    def __init__(self, cached_kib: int = CACHED_KIB) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            f"PRAGMA cache_size = -{cached_kib}",
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE seen(key BLOB PRIMARY KEY) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)

    def add(self, key: str) -> bool:
        """Add a key. Returns whether it was new."""
        return self._execute("INSERT OR IGNORE INTO seen VALUES(?)", key).rowcount == 1

    def __contains__(self, key: str) -> bool:
        return self._execute("SELECT 1 FROM seen WHERE key = ?", key).fetchone() is not None

    def _execute(self, statement: str, key: str) -> sqlite3.Cursor:
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            return self._database.execute(statement, (digest,))
        except sqlite3.OperationalError as error:
            raise CorpusError(
                f"cannot store what was read so far ({error}): free disk space, or set TMPDIR to another disk"
            ) from None
