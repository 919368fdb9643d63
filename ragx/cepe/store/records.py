"""Payloads by key in one SQLite database, `passages.sqlite`, shared by processes and threads.

It is a cache: passages that it loses are encoded again. It does not wait for the disk (`synchronous = OFF`): a killed
process leaves the database intact, a power cut may damage it. Each record has a CRC-32 of its key and payload; damaged
records are dropped, and a damaged database is replaced by an empty one.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from ragx.cepe.store.database import FAILURES, PAGE_BYTES, connect, is_damage
from ragx.util.terminal import notice

COMMIT_BYTES = 1 << 20
"""Payload bytes per transaction; more would hold the lock too long."""
EVICTION_BYTES = 64 << 20
"""Maximum number of bytes evicted beyond those that the next record needs."""
OVERHEAD = 256
"""Bytes of a record's entries in tables and indexes, besides its payload."""
Record = tuple[bytes, bytes]
"""Key and payload."""
MIN_BYTES = 16 * PAGE_BYTES
"""A smaller database has no room for records beside its own pages, and stores none."""


class RecordStore:
    """Payloads by key. Disk errors never make a method raise.

    Unreadable records count as absent. If writing fails, one notice says so and writing stops.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open the database in `folder`, creating both; evict records beyond `max_bytes` (not counting its journal)."""
        self.folder = folder.absolute()
        self.max_bytes = max_bytes if max_bytes >= MIN_BYTES else 0
        self.writable = self.max_bytes > 0
        self.dropped = 0
        """Damaged records found and dropped."""
        self._path = self.folder / "passages.sqlite"
        self._inode = 0
        self._lock = threading.RLock()
        self._notices: set[str] = set()
        self._database = self._opened(self._open)
        self._try_writing(self._shrink)

    def close(self) -> None:
        """Close the database; payloads already read stay valid."""
        with self._lock:
            self._database.close()

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The payload of each key; None for records that are absent, or damaged and therefore dropped."""
        query = "SELECT checksum, payload FROM records LEFT JOIN payloads USING (id) WHERE key = ?"
        payloads: dict[bytes, bytes] = {}
        damaged = []
        with self._lock:
            try:
                with self._database:
                    self._database.execute("BEGIN")  # one lock for all keys
                    for key in keys:
                        if (row := self._database.execute(query, (key,)).fetchone()) is None:
                            continue
                        checksum, payload = row
                        if isinstance(payload, bytes) and _checksum(key, payload) == checksum:
                            payloads[key] = payload
                        else:
                            damaged.append(key)
            except FAILURES as error:
                self._failed(error)
                return [None] * len(keys)
            for key in damaged:
                self._drop(key)
            self._mark_used(payloads)
            return [payloads.get(key) for key in keys]

    def touch(self, keys: Sequence[bytes]) -> set[bytes]:
        """Mark records as used and return the keys that are stored, without reading payloads."""
        query = "SELECT 1 FROM records WHERE key = ?"
        with self._lock:
            try:
                present = {key for key in keys if self._database.execute(query, (key,)).fetchone()}
            except FAILURES as error:
                self._failed(error)
                return set()
            self._mark_used(present)
            return present

    def write(self, records: Iterable[Record]) -> None:
        """Add records. A killed process loses at most the last `COMMIT_BYTES`."""
        batch: list[Record] = []
        size = 0
        with self._lock:
            for key, payload in records:
                batch.append((key, payload))
                size += len(payload)
                if size >= COMMIT_BYTES:
                    self._try_writing(lambda batch=batch: self._insert(batch))  # type: ignore[misc]
                    batch, size = [], 0
            if batch:
                self._try_writing(lambda: self._insert(batch))

    @property
    def protected_bytes(self) -> int:
        """The most recently used records up to this total size, by `record_bytes`, are never evicted."""
        return self.max_bytes * 3 // 4

    def _mark_used(self, keys: Iterable[bytes]) -> None:
        query = "UPDATE records SET used = ? WHERE key = ?"
        if not (keys := list(keys)):
            return
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(query, [(used, key) for used, key in enumerate(keys, self._now())])
        except FAILURES as error:
            if is_damage(error):  # otherwise read-only or busy, which only loses the order of use
                self._failed(error)

    def _drop(self, key: bytes) -> None:
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._delete("key = ?", key)
        except FAILURES as error:
            self._failed(error)
        self.dropped += 1
        self._notice(f"dropped damaged passage encodings in {self.folder}; they are encoded again when needed")

    def _insert(self, records: Sequence[Record]) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for key, payload in records:
                size = record_bytes(len(payload))
                if size > self.max_bytes // 16:
                    self._notice(
                        f"a cache of {self.max_bytes:,} bytes is too small for passage encodings of {size:,} bytes"
                    )
                    continue
                if self._database.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone():
                    continue  # another process was faster
                self._make_room(size)
                values = (_checksum(key, payload), payload)
                added = self._database.execute("INSERT INTO payloads(checksum, payload) VALUES(?, ?)", values)
                row = (key, added.lastrowid, size, self._now())
                self._database.execute("INSERT INTO records(key, id, size, used) VALUES(?, ?, ?, ?)", row)

    def _now(self) -> int:
        return self._number("SELECT coalesce(max(used), 0) FROM records WHERE used < 1 << 62") + 1

    def _make_room(self, size: int) -> None:
        """Evict the least recently used records until `size` bytes fit; call it within a transaction."""
        target = size + min(self.max_bytes // 16, EVICTION_BYTES)
        oldest = "SELECT used, sum(size) OVER (ORDER BY used) AS total FROM records ORDER BY used"
        query = f"SELECT used FROM ({oldest}) WHERE total >= ? LIMIT 1"  # noqa: S608
        while self._used_bytes() + size > self.max_bytes:
            last = self._database.execute(query, (target,)).fetchone()
            if not self._delete("used <= ?", *(last or (1 << 62,))):
                raise sqlite3.DatabaseError("no records are left to evict")

    def _delete(self, condition: str, *values: object) -> int:
        """Delete the records that meet `condition` and return their number; call it within a transaction."""
        records = f"FROM records WHERE {condition}"
        self._database.execute(f"DELETE FROM payloads WHERE id IN (SELECT id {records})", values)  # noqa: S608
        return self._database.execute(f"DELETE {records}", values).rowcount

    def _shrink(self) -> None:
        """Shrink a database whose earlier limit was larger."""
        excess = self._number("PRAGMA page_count") - self.max_bytes // PAGE_BYTES
        if excess > 0:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._make_room(0)
            self._database.executescript(f"PRAGMA incremental_vacuum({excess})")  # execute() frees a single page

    def _used_bytes(self) -> int:
        """Bytes of the file that are in use, plus a few pages for the next record's index entries."""
        return (self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count") + 4) * PAGE_BYTES

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])

    def _try_writing(self, step: Callable[[], None]) -> None:
        for _ in range(2):  # retry after replacing a damaged database
            if not self.writable:
                return
            try:
                step()
            except FAILURES as error:
                self._failed(error)
            except OSError as error:
                self._stop_writing(error)
            else:
                return

    def _opened(self, open_database: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """The database, or an empty one in memory if the folder is unusable."""
        try:
            return open_database()
        except (OSError, *FAILURES) as error:
            self._stop_writing(error)
            return connect(":memory:")

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except FAILURES as error:
            if not is_damage(error):
                raise
        return self._replace()

    def _replace(self) -> sqlite3.Connection:
        """Replace a damaged or deleted database by an empty one, unless another process has already done so."""
        with FileLock(self.folder / "passages.lock"):
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._path.unlink()
                self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
                self._notice(f"replaced the damaged database of passage encodings in {self.folder} by an empty one")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if not self.max_bytes:
            return connect(f"{self._path.as_uri()}?mode=ro")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._inode = self._path.stat().st_ino
        database = connect(self._path.as_uri())
        self._inode = self._path.stat().st_ino
        return database

    def _failed(self, error: Exception) -> None:
        if is_damage(error):
            self._database.close()
            self._database = self._opened(self._replace)
        else:
            self._stop_writing(error)

    def _stop_writing(self, error: Exception) -> None:
        if self.writable:
            self.writable = False
            reason = getattr(error, "strerror", None) or error
            self._notice(f"cannot write passage encodings to {self.folder} ({reason}); continuing without a cache")

    def _notice(self, line: str) -> None:
        if line not in self._notices:
            self._notices.add(line)
            notice(line)


def record_bytes(payload_bytes: int) -> int:
    """Maximum size of a record in the database, in bytes: small payloads share a page, large ones fill several."""
    if payload_bytes < PAGE_BYTES:
        return PAGE_BYTES // max(1, PAGE_BYTES // (payload_bytes + 32)) + OVERHEAD
    return -(-payload_bytes // PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES // 8 + OVERHEAD


def _checksum(key: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(key))
