"""Changes: the new passages of an update, which may exceed the memory."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ragx.errors import IndexFolderError
from ragx.index.passages import passage_line
from ragx.types import Passage
from ragx.util.temporary import TemporaryDatabase, digest

CACHED_KIB = 8_192


class Changes:
    """Passages by id, in the order in which their ids were put first; in memory up to `cached_kib`.

    Raises:
        IndexFolderError: the disk is full.
    """

    def __init__(self, cached_kib: int = CACHED_KIB) -> None:
        table = "CREATE TABLE changes(number INTEGER PRIMARY KEY, id BLOB UNIQUE, passage BLOB)"
        self._database = TemporaryDatabase(table, "the new passages", IndexFolderError, cached_kib)

    def put(self, passage: Passage) -> None:
        """Add a passage, or replace the one with its id."""
        statement = "INSERT INTO changes(id, passage) VALUES(?, ?) ON CONFLICT DO UPDATE SET passage = excluded.passage"
        self._database.execute(statement, digest(passage.id), passage_line(passage))

    def discard(self, id: str) -> None:
        """Remove the passage with this id, if there is one."""
        self._database.execute("DELETE FROM changes WHERE id = ?", digest(id))

    def __len__(self) -> int:
        number: int = self._database.execute("SELECT count(*) FROM changes").fetchone()[0]
        return number

    def __iter__(self) -> Iterator[Passage]:
        for (line,) in self._database.execute("SELECT passage FROM changes ORDER BY number"):
            yield Passage(*json.loads(line))
