"""Passages and rows that follow from a number, so that any process can tell a wrong row."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ragx.cepe.store import PassageStore

WIDTH = 64


def passage(number: int) -> list[int]:
    """0 to 16 tokens."""
    return [number, *range(number % 17)][: number % 17]


def passage_of(number: int, length: int) -> list[int]:
    return [number] * length


def vectors(tokens: list[int]) -> Tensor:
    """(L, WIDTH) bfloat16."""
    seed = hash((len(tokens), *tokens)) % 2**31
    return torch.randn(len(tokens), WIDTH, generator=torch.Generator().manual_seed(seed)).bfloat16()


def open_store(folder: Path, max_bytes: int = 1 << 30, fingerprint: str = "reader") -> PassageStore:
    return PassageStore(folder, fingerprint, WIDTH, max_bytes=max_bytes)


def put(store: PassageStore, passages: list[list[int]]) -> None:
    store.put(passages, [vectors(tokens) for tokens in passages])


def there(store: PassageStore, passages: list[list[int]]) -> list[bool]:
    """Which of them are stored. A wrong row is an error."""
    found = store.get(passages)
    for tokens, rows in zip(passages, found, strict=True):
        assert rows is None or torch.equal(rows.values, vectors(tokens)), f"wrong rows for {tokens}"
    return [rows is not None for rows in found]


def size(folder: Path) -> int:
    """Bytes of the database."""
    return (folder / "passages.sqlite").stat().st_size
