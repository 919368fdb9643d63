"""Passage encodings on disk: each passage is encoded once and read for every question, in any order and subset.

`passages` is the store, `rows` its two number formats, `records` the payloads by key, `database` SQLite. Importing it
loads neither torch nor a model.
"""

from ragx.cepe.store.passages import (
    Encode,
    EncodeBatches,
    FillResult,
    OnEncoded,
    Passages,
    PassageStore,
    Stats,
    each_batch,
)
from ragx.cepe.store.rows import Rows

__all__ = [
    "Encode",
    "EncodeBatches",
    "FillResult",
    "OnEncoded",
    "PassageStore",
    "Passages",
    "Rows",
    "Stats",
    "each_batch",
]
