"""Seen: a set of keys that may exceed the memory, to find repetitions in a corpus of any size."""

from __future__ import annotations

from ragx.errors import CorpusError
from ragx.util.temporary import CACHED_KIB, TemporaryDatabase, digest


class Seen:
    """Keys, in memory up to `cached_kib`, beyond that in a temporary file. Each is stored as a digest of 16 bytes.

    Raises:
        CorpusError: the disk is full.
    """

    def __init__(self, cached_kib: int = CACHED_KIB) -> None:
        table = "CREATE TABLE seen(key BLOB PRIMARY KEY) WITHOUT ROWID"
        self._database = TemporaryDatabase(table, "what was read so far", CorpusError, cached_kib)

    def add(self, key: str) -> bool:
        """Add a key. Returns whether it was new."""
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES(?)", digest(key)).rowcount == 1

    def __contains__(self, key: str) -> bool:
        return self._database.execute("SELECT 1 FROM seen WHERE key = ?", digest(key)).fetchone() is not None
