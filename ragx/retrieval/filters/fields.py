"""The fields of an index's passages, by column; a column is read when a filter first needs it."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ragx.errors import REPAIR_ADVICE, ConfigError, IndexFolderError
from ragx.index import Index
from ragx.index.passages import numbered
from ragx.retrieval.filters.built_in import BUILT_IN, built_in_column, built_in_value, source_folders
from ragx.retrieval.filters.conditions import Condition
from ragx.retrieval.filters.values import Holds
from ragx.types import Passage

MAX_COLUMNS = 16
"""Columns that are kept, the latest; each takes 4 bytes a passage, and its distinct values."""
MAX_MASKS = 128
"""Results of filters that are kept, the latest; each takes a bit a passage."""
MAX_LISTED = 60
"""Fields that an error lists."""
EXAMPLES = 3
_TYPES = {str: "text", int: "number", float: "number", bool: "boolean", list: "list", dict: "mapping"}


@dataclass(frozen=True)
class Column:
    """One field of all passages."""

    values: list[Any]
    """Distinct JSON values."""
    numbers: np.ndarray
    """(total,): the number of each row's value; -1: it lacks the field."""


class Fields:
    """The fields of one opened generation: those of `BUILT_IN` and of the documents' own metadata. Thread-safe."""

    def __init__(self, index: Index) -> None:
        """Read nothing yet."""
        self._index = index
        self._folders = source_folders(index)
        self._lock = threading.RLock()
        self._names: frozenset[str] | None = None
        self._columns: OrderedDict[str, Column] = OrderedDict()
        self._masks: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def names(self) -> frozenset[str]:
        """All fields of the index."""
        with self._lock:
            if self._names is None:
                self._read([])
            return self._names or frozenset()

    def check(self, condition: Condition) -> None:
        """Check that the index has the fields of a condition.

        Raises:
            ConfigError: it has not; the message lists its fields.
        """
        with self._lock:
            if self._names is None:  # one pass for the names of all fields and the columns that `mask` needs
                self._read(condition.fields)
        for name in condition.fields:
            if name not in self.names:
                known = sorted(self.names)
                more = f" and {len(known) - MAX_LISTED} more (`ragx index fields`)" if len(known) > MAX_LISTED else ""
                raise ConfigError(
                    f"where: the index has no field {name!r}; its fields: {', '.join(known[:MAX_LISTED])}{more}"
                )

    def mask(self, condition: Condition, key: str) -> np.ndarray:
        """The rows, (total,) bool, that fulfil a condition and are not deleted; `key` tells conditions apart."""
        with self._lock:
            packed = self._masks.pop(key, None)
            if packed is None:
                columns = self._read(condition.fields)
                mask = condition.mask(lambda name, holds: _passing(columns[name], holds))
                mask[self._index.deleted] = False
                packed = np.packbits(mask)
            _keep(self._masks, key, packed, MAX_MASKS)
        return np.unpackbits(packed, count=self._index.total).view(bool)

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Every field that passages have, by name: how many do, the JSON types of its values, and some of these."""
        names = sorted(self.names)
        found = {}
        for start in range(0, len(names), MAX_COLUMNS):
            for name, column in self._read(names[start : start + MAX_COLUMNS]).items():
                numbers = np.delete(column.numbers, self._index.deleted)
                counts = np.bincount(numbers[numbers >= 0], minlength=len(column.values))
                values = [value for value, count in zip(column.values, counts.tolist(), strict=True) if count]
                if values:
                    types = sorted({_TYPES.get(type(value), "null") for value in values})
                    found[name] = {"passages": int(counts.sum()), "types": types, "examples": values[:EXAMPLES]}
        return found

    def values(self, passage: Passage, names: Sequence[str]) -> dict[str, object]:
        """The values of these fields of one passage, without those it lacks."""
        own = _record(passage.metadata, self._index)
        found = {
            name: own[name] if name in own else built_in_value(name, passage, self._folders)
            for name in names
            if name in own or name in BUILT_IN
        }
        return {name: value for name, value in found.items() if value is not None}

    def _read(self, names: Sequence[str]) -> dict[str, Column]:
        """The columns of these fields, and the names of all; reads the metadata of all passages at most once."""
        with self._lock:
            missing = [name for name in names if name not in self._columns]
            if missing or self._names is None:
                own = self._own_columns(missing)
                for name in missing:
                    column = own[name]
                    if name in BUILT_IN:
                        values, numbers = built_in_column(name, self._index)
                        moved = np.where(column.numbers < 0, -1, column.numbers + len(values))
                        column = Column([*values, *column.values], np.where(moved < 0, numbers, moved))
                    own[name] = Column(column.values, column.numbers.astype(np.int32))
            found = {name: own[name] if name in missing else self._columns.pop(name) for name in dict.fromkeys(names)}
            for name, column in found.items():
                _keep(self._columns, name, column, MAX_COLUMNS)
            return found

    def _own_columns(self, names: Sequence[str]) -> dict[str, Column]:
        """The columns of the documents' own fields."""
        texts, record = numbered([shard.passages for shard in self._index.shards], "metadata")
        numbers = {name: np.full(len(texts), -1, np.int64) for name in names}
        values: dict[str, dict[tuple[str, Any], int]] = {name: {} for name in names}
        seen: set[str] = set()
        for at, text in enumerate(texts):
            fields = _record(text, self._index)
            seen.update(fields)
            for name in names:
                if name in fields:
                    numbers[name][at] = values[name].setdefault(_key(fields[name]), len(values[name]))
        self._names = frozenset(seen).union(BUILT_IN)
        return {
            name: Column(
                [json.loads(text) if kind == "json" else text for kind, text in values[name]],
                numbers[name][record] if len(texts) else np.empty(0, np.int64),
            )
            for name in names
        }


def _passing(column: Column, holds: Holds) -> np.ndarray:
    verdicts = [holds(value) for value in column.values]
    passing: np.ndarray = np.array([*verdicts, False], bool)[column.numbers]  # -1 is the last
    return passing


def _record(text: str, index: Index) -> dict[str, Any]:
    """The metadata of a passage."""
    try:
        fields = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise IndexFolderError(f"the metadata of passages in {index.folder} is damaged: {REPAIR_ADVICE}")
    return fields


def _key(value: object) -> tuple[str, Any]:
    """Tells JSON values apart, such as 1 from true; lists and mappings as JSON."""
    if isinstance(value, list | dict):
        return "json", json.dumps(value)
    return type(value).__name__, value


def _keep(cache: OrderedDict[str, Any], key: str, value: object, limit: int) -> None:
    cache[key] = value
    while len(cache) > limit:
        cache.popitem(last=False)
