"""Key/value cache for a batch of sequences of different lengths, one row each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

COLUMNS = 256
"""Number of tokens by which rows grow."""


def layers_of(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """The keys and values of each layer, (B, G, N, D)."""
    return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr, misc]


class BatchCache:
    """The part of transformers' cache interface that a step of one token per row needs.

    Every row begins at column 0 and has its own length: joining moves no other row, and a step writes each row's new
    token in place.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        """Number of tokens of each row."""
        self._keys: list[Tensor] = []  # a layer: (R, G, C, D), R ≥ B rows and C columns
        self._values: list[Tensor] = []
        self._rows = self._ends = torch.empty(0, dtype=torch.long)  # (B,), where a step writes

    def join(self, one: DynamicCache) -> None:
        """Add a row: the cache of one sequence (B = 1)."""
        length = one.get_seq_length()
        row = len(self.lengths)
        layers = layers_of(one)
        if not row or row >= len(self._keys[0]) or length > self._keys[0].shape[2]:
            columns = -(-(max([length, *self.lengths]) + 1) // COLUMNS) * COLUMNS
            self._resize(max(1, 2 * row), columns, layers)
        self.lengths.append(length)
        self.replace(row, layers)

    def row(self, row: int) -> list[tuple[Tensor, Tensor]]:
        """The keys and values of a row in each layer, (1, G, N, D)."""
        part = (slice(row, row + 1), slice(None), slice(self.lengths[row]))
        return [(keys[part], values[part]) for keys, values in zip(self._keys, self._values, strict=True)]

    def replace(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Give a row other tokens, no more than it has room for."""
        length = layers[0][0].shape[2]
        for number, (keys, values) in enumerate(layers):
            self._keys[number][row, :, :length] = keys[0]
            self._values[number][row, :, :length] = values[0]
        self.lengths[row] = length

    def leave(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
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
        """Position of each row's next token, (B, 1), and the mask of columns it attends to, (B, 1, 1, N).

        Makes room for the tokens.
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
        """Write one token per row, (B, G, 1, D); return all tokens, (B, G, N, D), including those past a row's end."""
        rows, ends = self._rows.to(keys.device), self._ends.to(keys.device)
        self._keys[layer][rows, :, ends] = keys[:, :, 0]
        self._values[layer][rows, :, ends] = values[:, :, 0]
        batch = (slice(len(self.lengths)), slice(None), slice(max(self.lengths) + 1))
        return self._keys[layer][batch], self._values[layer][batch]

    def advance(self) -> None:
        """Count the token that the step added to every row."""
        self.lengths = [length + 1 for length in self.lengths]

    def get_seq_length(self, layer: int = 0) -> int:
        """Number of tokens of the longest row."""
        return max(self.lengths, default=0)

    def _resize(self, rows: int, columns: int, like: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copy the rows to tensors of a new size, shaped and typed otherwise as `like`."""
        current = [*self._keys, *self._values]
        # zeros, because masked values must still be finite
        resized = [
            old.new_zeros(rows, old.shape[1], columns, old.shape[3]) for pair in zip(*like, strict=True) for old in pair
        ]
        count = len(self.lengths)
        for old, new in zip(current, resized, strict=bool(current)):
            kept = min(columns, old.shape[2])
            new[:count, :, :kept] = old[:count, :, :kept]
        self._keys, self._values = resized[: len(like)], resized[len(like) :]
