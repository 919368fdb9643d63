"""Payloads by key in one SQLite database, `passages.sqlite`, that processes and threads share.

It is a cache: whatever is lost is encoded again. Nothing waits for the disk (`synchronous = OFF`), so a killed process
leaves the database whole while a power cut may damage it. A record carries a CRC-32 of its key and payload; a damaged
record is dropped, a damaged database is deleted and started anew. Files of the former layout in the same folder
(`*.segment`, `index.sqlite`, `index.lock`) are not read and may be deleted.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from ragx.util.terminal import notice

LOCK_SECONDS = 5.0
PAGE_BYTES = 16_384
"""Measured with payloads of 150 kB: smaller pages are slower to read, larger ones slower to write."""
COMMIT_BYTES = 1 << 20
"""Payloads written in one transaction; more would hold the lock for long."""
MAX_EVICTED = 64 << 20
"""Bytes evicted beyond what the next record needs."""
OVERHEAD = 256
"""Bytes of a record's entries in the tables and indexes besides its payload."""
SCHEMA = (
    "CREATE TABLE payloads(id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, payload BLOB NOT NULL)",
    # apart from the payloads: marking a record as used must not rewrite its payload
    "CREATE TABLE records(key BLOB PRIMARY KEY, id INTEGER NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE INDEX by_use ON records(used, size)",
)
FAILURES = (sqlite3.Error, UnicodeDecodeError, OverflowError)
"""What any statement may raise; the others where a damaged database gives SQLite or Python impossible values."""
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
"""Result codes that are about the disk or other processes rather than damage."""
Record = tuple[bytes, bytes]
"""Key and payload."""
MIN_BYTES = 16 * PAGE_BYTES
"""A smaller database has no room for records beside its own pages: nothing is kept."""


class RecordStore:
    """Payloads by key. The disk never makes a method raise.

    What cannot be read counts as absent. When something cannot be written, one notice says so and writing stops.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open the database in `folder`, creating both; evict what exceeds `max_bytes` (its journal not counted)."""
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

    def read(self, keys: Sequence[bytes]) -> list[bytearray | None]:
        """The payload of each key after checking it; None where it is absent or damaged, and then dropped."""
        query = "SELECT checksum, payload FROM records LEFT JOIN payloads USING (id) WHERE key = ?"
        payloads: dict[bytes, bytearray] = {}
        damaged = []
        with self._lock:
            try:
                with self._database:
                    self._database.execute("BEGIN")  # one lock for all of them
                    for key in keys:
                        if (row := self._database.execute(query, (key,)).fetchone()) is None:
                            continue
                        checksum, payload = row
                        if isinstance(payload, bytes) and _checksum(key, payload) == checksum:
                            payloads[key] = bytearray(payload)  # bytes cannot back a tensor
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
        """The keys that are stored, which count as used now; their payloads are not read."""
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
        """Add records. If this process is killed, at most the last `COMMIT_BYTES` of them are lost."""
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
    def kept_bytes(self) -> int:
        """The most recently used records of this total size, by `record_bytes`, are never evicted."""
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
            if _is_damage(error):  # otherwise read-only or busy: only the order of use is lost
                self._failed(error)

    def _drop(self, key: bytes) -> None:
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._delete("key = ?", key)
        except FAILURES as error:
            self._failed(error)
        self.dropped += 1
        self._notice(f"damaged passage encodings in {self.folder} were dropped; they are encoded again when needed")

    def _insert(self, records: Sequence[Record]) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for key, payload in records:
                size = record_bytes(len(payload))
                if size > self.max_bytes // 16:
                    self._notice(
                        f"a cache of {self.max_bytes} bytes is too small to keep passage encodings of {size} bytes"
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
        """Evict the least recently used records until `size` bytes fit; within a transaction."""
        wanted = size + min(self.max_bytes // 16, MAX_EVICTED)
        oldest = "SELECT used, sum(size) OVER (ORDER BY used) AS total FROM records ORDER BY used"
        query = f"SELECT used FROM ({oldest}) WHERE total >= ? LIMIT 1"  # noqa: S608
        while self._used_bytes() + size > self.max_bytes:
            last = self._database.execute(query, (wanted,)).fetchone()
            if not self._delete("used <= ?", *(last or (1 << 62,))):
                raise sqlite3.DatabaseError("the database holds more than its records")

    def _delete(self, condition: str, *values: object) -> int:
        """Delete the records that meet `condition` and return their number; within a transaction."""
        chosen = f"FROM records WHERE {condition}"
        self._database.execute(f"DELETE FROM payloads WHERE id IN (SELECT id {chosen})", values)  # noqa: S608
        return self._database.execute(f"DELETE {chosen}", values).rowcount

    def _shrink(self) -> None:
        """Bring a database that was allowed to grow larger within the bound."""
        excess = self._number("PRAGMA page_count") - self.max_bytes // PAGE_BYTES
        if excess > 0:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._make_room(0)
            self._database.executescript(f"PRAGMA incremental_vacuum({excess})")  # execute() stops after a page

    def _used_bytes(self) -> int:
        """Bytes of the file that are not free, and a few pages for what the next record adds to the indexes."""
        return (self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count") + 4) * PAGE_BYTES

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])

    def _try_writing(self, step: Callable[[], None]) -> None:
        for _ in range(2):  # again if the database was damaged and could be replaced
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

    def _opened(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """The database, or an empty one in memory if the folder can hold none."""
        try:
            return connect()
        except (OSError, *FAILURES) as error:
            self._stop_writing(error)
            return _connect(":memory:")

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except FAILURES as error:
            if not _is_damage(error):
                raise
        return self._replace()

    def _replace(self) -> sqlite3.Connection:
        """Start anew after damage or deletion, unless another process has just done so."""
        with FileLock(self.folder / "passages.lock"):
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._path.unlink()
                self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
                self._notice(f"the database of passage encodings in {self.folder} was damaged and is started anew")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if not self.max_bytes:
            return _connect(f"{self._path.as_uri()}?mode=ro")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._inode = self._path.stat().st_ino
        database = _connect(self._path.as_uri())
        self._inode = self._path.stat().st_ino
        return database

    def _failed(self, error: Exception) -> None:
        if _is_damage(error):
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
    """Bytes that a record takes in the database, at most: small payloads share a page, large ones fill several."""
    if payload_bytes < PAGE_BYTES:
        return PAGE_BYTES // max(1, PAGE_BYTES // (payload_bytes + 32)) + OVERHEAD
    return -(-payload_bytes // PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES // 8 + OVERHEAD


def _checksum(key: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(key))


def _connect(uri: str) -> sqlite3.Connection:
    """Open the database at `uri`, creating its tables.

    Raises:
        FAILURES: it cannot be opened or is damaged; see `_is_damage`.
    """
    database = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")
        if not _schema(database):
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            with database:
                database.execute("BEGIN IMMEDIATE")
                if not _schema(database):  # another process may have been faster
                    for statement in SCHEMA:
                        database.execute(statement)
        if _schema(database) != SCHEMA:  # SQLite would accept one that a flipped bit has turned into another
            raise sqlite3.DatabaseError("the tables are not those of this version")
    except BaseException:
        database.close()
        raise
    return database


def _schema(database: sqlite3.Connection) -> tuple[str, ...]:
    rows = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    return tuple(sql for (sql,) in rows)


def _is_damage(error: Exception) -> bool:
    """Whether starting anew helps: the database is damaged, or no longer the one at its path."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # not set on errors that Python finds
    return code == sqlite3.SQLITE_READONLY_DBMOVED or code & 0xFF not in ENVIRONMENT
