"""Records by key in a folder that processes and threads share, bounded in size, the least recently used out first.

    index.sqlite       see `index`
    <16 hex>.segment   see `segment`

A write transaction of the index is the lock that keeps writers apart; it takes as long as one record. A record enters
the index after it is in its segment, and a segment is deleted after it has left the index, so a process that dies
between leaves nothing that anyone would read.
"""

from __future__ import annotations

import mmap
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from ragx.cepe.store import index, segment
from ragx.util.terminal import notice

MAX_SEGMENT = 64 << 20
MAX_MAPPED = 256
"""Segments held in memory maps: each costs an open file."""
Place = tuple[int, int]
"""Segment and offset of a record."""
PLACE = "coalesce(CAST(segment AS INTEGER), -1), coalesce(CAST(offset AS INTEGER), -1)"
"""A `Place` whatever a damaged index holds."""


class RecordStore:
    """Payloads by key. Nothing here raises because of the disk.

    What cannot be read is absent. Where something cannot be written, that is said once and no more is written.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open the folder, made where missing; what is over `max_bytes` (index included) is dropped."""
        self.folder = folder.absolute()
        self.max_bytes = max_bytes
        self.writable = max_bytes > 0
        self.dropped = 0
        """Damaged records that were found and dropped."""
        self._path = self.folder / "index.sqlite"
        self._inode = 0
        self._lock = threading.RLock()
        self._said: set[str] = set()
        self._mapped: dict[int, mmap.mmap] = {}
        self._index = self._opened(self._open)
        self._write(self._forget_deleted_segments)
        self._write(lambda: self._make_room(0))

    def close(self) -> None:
        """Let go of the files; what was read stays valid."""
        with self._lock:
            self._index.close()
            self._mapped.clear()

    def read(self, keys: Sequence[bytes]) -> list[memoryview | None]:
        """The payload of each key, mapped and verified; None where there is none or a damaged one, which is dropped."""
        with self._lock:
            places = self._places(keys)
            payloads = {key: self._payload(key, place) for key, place in places.items()}
            for key, payload in payloads.items():
                if payload is None:
                    self._drop(key, places[key])
            if found := [key for key, payload in payloads.items() if payload is not None]:
                self._touch(found)
            return [payloads.get(key) for key in keys]

    def touch(self, keys: Sequence[bytes]) -> set[bytes]:
        """The keys that are there, which count as used now; their records are not read."""
        with self._lock:
            if present := self._places(keys):
                self._touch(present)
            return set(present)

    def write(self, records: Iterable[tuple[bytes, Sequence[memoryview]]]) -> None:
        """Add records. A crash of this process loses at most the one being written."""
        with self._lock:
            for key, payload in records:
                self._write(lambda key=key, payload=payload: self._append(key, payload))  # type: ignore[misc]

    @property
    def kept_bytes(self) -> int:
        """The most recently used records that add up to this much are never dropped to make room."""
        return self._capacity() * 3 // 4

    # reading

    def _places(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        query = f"SELECT {PLACE} FROM records WHERE key = ?"  # noqa: S608
        try:
            with self._index:  # one lock for all of them
                self._index.execute("BEGIN")
                self._unmap_deleted()
                places = {key: self._index.execute(query, (key,)).fetchone() for key in keys}
        except index.FAILURES as error:
            self._index_failed(error)
            return {}
        return {key: place for key, place in places.items() if place is not None}

    def _payload(self, key: bytes, place: Place) -> memoryview | None:
        number, offset = place
        try:
            mapped = self._mapped.get(number)
            if mapped is None or len(mapped) != segment.path(self.folder, number).stat().st_size:  # grown or cut
                mapped = self._map(number)
        except (OSError, ValueError):  # deleted, or cut to nothing
            return None
        return segment.payload(mapped, key, offset)

    def _map(self, number: int) -> mmap.mmap:
        self._mapped.pop(number, None)
        while len(self._mapped) >= MAX_MAPPED:
            del self._mapped[next(iter(self._mapped))]
        with segment.path(self.folder, number).open("rb") as file:
            # Copy on write: what a caller does to the payload changes neither the file nor what others see.
            self._mapped[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._mapped[number]

    def _unmap_deleted(self) -> None:
        """A deleted file takes up disk space for as long as it is mapped."""
        known = self._known_segments()
        self._mapped = {number: mapped for number, mapped in self._mapped.items() if number in known}

    def _drop(self, key: bytes, place: Place) -> None:
        """Take out a record that cannot be read, unless another process has moved it meanwhile."""
        query = f"DELETE FROM records WHERE (key, {PLACE}) = (?, ?, ?)"  # noqa: S608
        try:
            gone = self._index.execute(query, (key, *place)).rowcount
        except index.FAILURES as error:
            self._index_failed(error)
            gone = 1
        if gone:
            self.dropped += 1
            self._say(f"damaged passage encodings in {self.folder} were dropped; they are encoded again when needed")

    def _touch(self, keys: Iterable[bytes]) -> None:
        query = "UPDATE records SET used = ? WHERE key = ?"
        try:
            with self._index:
                self._index.execute("BEGIN IMMEDIATE")
                self._index.executemany(query, [(used, key) for used, key in enumerate(keys, self._now())])
        except index.FAILURES:
            pass  # read-only or busy: only the order of use is lost

    # writing

    def _write(self, step: Callable[[], None]) -> None:
        for _ in range(2):  # again where the index was damaged and could be replaced
            if not self.writable:
                return
            try:
                step()
            except index.FAILURES as error:
                self._index_failed(error)
            except OSError as error:
                self._stop_writing(error)
            else:
                return

    def _append(self, key: bytes, payload: Sequence[memoryview]) -> None:
        size = segment.record_bytes(sum(part.nbytes for part in payload))
        if size > self._capacity() // 8:
            self._say(f"a cache of {self.max_bytes} bytes is too small to keep passage encodings of {size} bytes")
            return
        self._make_room(size)
        header = segment.header(key, payload)
        with self._index:
            self._index.execute("BEGIN IMMEDIATE")
            if self._index.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone():
                return  # another process was faster
            number, offset = self._reserve(size)
            segment.append(segment.path(self.folder, number), offset, [header, *payload])
            row = (key, number, offset, size, self._now())
            self._index.execute("INSERT INTO records VALUES(?, ?, ?, ?, ?)", row)

    def _reserve(self, size: int, *, besides: int | None = None) -> Place:
        """Room at the end of a segment, a new one where all are full; within a transaction."""
        tail = self._index.execute(
            "SELECT id, CAST(size AS INTEGER) FROM segments WHERE size + ? <= ? AND id IS NOT ? ORDER BY size DESC",
            (size, self._segment_limit(), besides),
        ).fetchone()
        number, end = tail or (self._new_segment(), 0)
        # What a process left that died while it wrote stays: nothing is ever written over.
        end = max(end, segment.aligned(segment.path(self.folder, number).stat().st_size))
        self._index.execute("UPDATE segments SET size = ? WHERE id = ?", (end + size, number))
        return number, end

    def _new_segment(self) -> int:
        for left in segment.numbers(self.folder) - self._known_segments():  # by a process that died
            segment.path(self.folder, left).unlink(missing_ok=True)
        number = secrets.randbits(63)  # not used before: nobody takes a map of a deleted segment for it
        segment.path(self.folder, number).touch(exist_ok=False)
        self._index.execute("INSERT INTO segments VALUES(?, 0)", (number,))
        return number

    def _forget_deleted_segments(self) -> None:
        for number in self._known_segments() - segment.numbers(self.folder):
            with self._index:
                self._index.execute("BEGIN IMMEDIATE")
                self._forget(number)

    def _forget(self, number: int) -> None:
        self._index.execute("DELETE FROM records WHERE segment = ?", (number,))
        self._index.execute("DELETE FROM segments WHERE id = ?", (number,))

    def _known_segments(self) -> set[int]:
        return {number for (number,) in self._index.execute("SELECT id FROM segments")}

    def _now(self) -> int:
        last: int = self._index.execute("SELECT coalesce(max(used), 0) FROM records WHERE used < 1 << 62").fetchone()[0]
        return last + 1

    # the bound

    def _capacity(self) -> int:
        """Bytes that segments may take up."""
        return max(0, self.max_bytes - (self._path.stat().st_size if self._path.exists() else 0))

    def _segment_limit(self) -> int:
        return min(MAX_SEGMENT, self.max_bytes // 16)

    def _make_room(self, size: int) -> None:
        """Where `size` more bytes do not fit, drop the least recently used records and make segments smaller.

        What is left of a segment moves to another, those with the most bytes to gain first; a segment's worth of room
        is kept free for it.
        """
        limit = self._capacity() - self._segment_limit() - size
        total = "SELECT coalesce(sum(size), 0) FROM segments"
        if self._index.execute(total).fetchone()[0] <= limit:
            return
        self._drop_least_recently_used()
        segments = self._index.execute(
            "SELECT id FROM segments LEFT JOIN (SELECT segment, sum(size) AS left FROM records GROUP BY segment)"
            " ON segment = id ORDER BY size - coalesce(left, 0) DESC"
        ).fetchall()
        for (number,) in segments:
            self._compact(number)
            if self._index.execute(total).fetchone()[0] <= limit:
                return

    def _drop_least_recently_used(self) -> None:
        newest = "SELECT used, sum(size) OVER (ORDER BY used DESC) AS newer FROM records ORDER BY used DESC"
        query = f"SELECT used FROM ({newest}) WHERE newer > ? LIMIT 1"  # noqa: S608
        last = self._index.execute(query, (self.kept_bytes,)).fetchone()
        if last:
            self._index.execute("DELETE FROM records WHERE used <= ?", last)

    def _compact(self, number: int) -> None:
        """Move the records of a segment to others and delete it."""
        path = segment.path(self.folder, number)
        with self._index:
            self._index.execute("BEGIN IMMEDIATE")
            moving = self._index.execute(
                "SELECT key, offset, size FROM records WHERE segment = ?", (number,)
            ).fetchall()
            for key, offset, size in moving:
                place = self._reserve(size, besides=number)
                segment.append(segment.path(self.folder, place[0]), place[1], [segment.read(path, offset, size)])
                self._index.execute("UPDATE records SET segment = ?, offset = ? WHERE key = ?", (*place, key))
            self._forget(number)
        self._mapped.pop(number, None)
        path.unlink(missing_ok=True)

    # the index

    def _opened(self, way: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """The index; where there can be none in the folder, one in memory."""
        try:
            return way()
        except (OSError, *index.FAILURES) as error:
            self._stop_writing(error)
            return index.connect(":memory:", self.folder)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except index.FAILURES as error:
            if not index.is_damage(error):
                raise
        return self._replace()

    def _replace(self) -> sqlite3.Connection:
        """Make a damaged or deleted index again from the segments, unless another process has just done so."""
        with FileLock(self.folder / "index.lock"):
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._path.unlink()
                self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)  # of the damaged one
                self._say(f"the index of passage encodings in {self.folder} was damaged and is made again")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self.max_bytes:
            self.folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._inode = self._path.stat().st_ino
        opened = index.connect(self._path, self.folder)
        self._inode = self._path.stat().st_ino
        return opened

    def _index_failed(self, error: Exception) -> None:
        if index.is_damage(error):
            self._index.close()
            self._index = self._opened(self._replace)
        else:
            self._stop_writing(error)

    def _stop_writing(self, error: Exception) -> None:
        if self.writable:
            self.writable = False
            reason = getattr(error, "strerror", None) or error
            self._say(f"cannot write passage encodings to {self.folder} ({reason}); going on without")

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            notice(line)
