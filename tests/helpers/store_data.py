"""Passages, and rows derived from their tokens, so that any process can recognize a wrong row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ragx.cepe.store import PassageStore, Rows

WIDTH = 64


def repeated(token: int, length: int) -> list[int]:
    return [token] * length


def rows_of(tokens: list[int]) -> Rows:
    """(L, WIDTH) in bfloat16."""
    random = np.random.default_rng([len(tokens), *tokens])
    return Rows.from_float32(random.standard_normal((len(tokens), WIDTH), np.float32), "bfloat16")


def open_store(folder: Path, max_bytes: int = 1 << 30, fingerprint: str = "reader") -> PassageStore:
    return PassageStore(folder, fingerprint, WIDTH, max_bytes=max_bytes)


def put(store: PassageStore, passages: list[list[int]]) -> None:
    store.put(passages, [rows_of(tokens) for tokens in passages])


def is_stored(store: PassageStore, passages: list[list[int]]) -> list[bool]:
    """Whether each passage is stored; wrong rows fail the test."""
    stored = store.get(passages)
    for tokens, rows in zip(passages, stored, strict=True):
        assert rows is None or np.array_equal(rows.values, rows_of(tokens).values), f"wrong rows for {tokens}"
    return [rows is not None for rows in stored]


def size(folder: Path) -> int:
    """Size of the database in bytes."""
    return (folder / "passages.sqlite").stat().st_size
