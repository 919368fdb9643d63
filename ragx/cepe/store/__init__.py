"""Passage encodings on disk: each passage is encoded once and read for every question, in any order and subset.

`passages` is the store, `rows` its two number formats, `records` the payloads by key, `database` SQLite.
"""

from ragx.cepe.store.passages import EncodeBatches, FillResult, PassageStore, Stats, encode_rows
from ragx.cepe.store.rows import Format, Rows

__all__ = ["EncodeBatches", "FillResult", "Format", "PassageStore", "Rows", "Stats", "encode_rows"]
