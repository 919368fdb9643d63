"""Keys and values of sequences of different lengths, a row each, for a decoder that goes on with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

COLUMNS = 256
"""Rows grow by so many tokens at a time."""


class BatchCache:
    """What a transformers decoder needs of a cache for steps of one token a row.

    A row begins at column 0 and ends wherever it ends: joining moves no other row, and a step writes each row's new
    token in place.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        """Tokens of each row."""
        self._keys: list[Tensor] = []  # a layer: (R, G, C, D), R ≥ B rows and C columns
        self._values: list[Tensor] = []
        self._rows = self._ends = torch.empty(0, dtype=torch.long)  # (B,), where the step writes

    def join(self, one: DynamicCache) -> None:
        """Add a row: the cache of one sequence (B = 1)."""
        length = one.get_seq_length()
        row = len(self.lengths)
        layers: list[tuple[Tensor, Tensor]] = [(layer.keys, layer.values) for layer in one.layers]  # type: ignore[union-attr, misc]
        if not row or row >= len(self._keys[0]) or length > self._keys[0].shape[2]:
            columns = -(-(max([length, *self.lengths]) + 1) // COLUMNS) * COLUMNS
            self._resize(max(1, 2 * row), columns, layers)
        for number, (keys, values) in enumerate(layers):
            self._keys[number][row, :, :length] = keys[0]
            self._values[number][row, :, :length] = values[0]
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        """Drop a row; the last one takes its place."""
        last = len(self.lengths) - 1
        length = self.lengths[last]
        if row != last:
            for tensor in (*self._keys, *self._values):
                tensor[row, :, :length] = tensor[last, :, :length]
        self.lengths[row] = length
        self.lengths.pop()
        if not self.lengths:
            self._keys, self._values = [], []  # an idle server holds no memory

    def next_positions(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Position of each row's next token (B, 1), and which columns it attends to (B, 1, 1, N), N the longest row's.

        Makes room for them.
        """
        longest = max(self.lengths) + 1
        if longest > self._keys[0].shape[2]:
            rows, columns = self._keys[0].shape[0], self._keys[0].shape[2] + COLUMNS
            self._resize(rows, columns, list(zip(self._keys, self._values, strict=True)))
        self._rows = torch.arange(len(self.lengths), device=device)
        self._ends = torch.tensor(self.lengths, device=device)
        places = torch.arange(longest, device=device)
        return self._ends[:, None], (places <= self._ends[:, None])[:, None, None]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Write one token a row, (B, G, 1, D); all tokens of the batch, (B, G, N, D), those beyond a row's end too."""
        rows, ends = self._rows.to(keys.device), self._ends.to(keys.device)
        self._keys[layer][rows, :, ends] = keys[:, :, 0]
        self._values[layer][rows, :, ends] = values[:, :, 0]
        batch = (slice(len(self.lengths)), slice(None), slice(max(self.lengths) + 1))
        return self._keys[layer][batch], self._values[layer][batch]

    def advance(self) -> None:
        """Count the token that every row has gained."""
        self.lengths = [length + 1 for length in self.lengths]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)

    def _resize(self, rows: int, columns: int, like: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Move to tensors of another size, of the shapes and types of `like`."""
        held = [*self._keys, *self._values]
        # zeros: what is masked out must still be a number
        made = [
            old.new_zeros(rows, old.shape[1], columns, old.shape[3]) for pair in zip(*like, strict=True) for old in pair
        ]
        count = len(self.lengths)
        for old, new in zip(held, made, strict=bool(held)):
            kept = min(columns, old.shape[2])
            new[:count, :, :kept] = old[:count, :, :kept]
        self._keys, self._values = made[: len(like)], made[len(like) :]
