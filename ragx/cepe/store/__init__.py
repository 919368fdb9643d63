"""Passage encodings on disk: a passage is encoded once and read for every question, in any order and subset.

`passages` is the store, `rows` the two number formats, `records` the database.
"""

from ragx.cepe.store.passages import EncodeBatches, Filled, PassageStore, Stats, encode_rows
from ragx.cepe.store.rows import Format, Rows

__all__ = ["EncodeBatches", "Filled", "Format", "PassageStore", "Rows", "Stats", "encode_rows"]
