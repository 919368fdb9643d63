"""Key/value arrays of several sequences, one row each, that grow as sequences join."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RowCache:
    """Arrays (R, G, C, D), R rows of C columns; row b holds `lengths[b]` tokens from column 0."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._arrays: list[np.ndarray] = []

    @property
    def arrays(self) -> list[np.ndarray]:
        """The arrays of the B rows in use, (B, G, C, D): contiguous parts of larger ones."""
        return [array[: len(self.lengths)] for array in self._arrays]

    def join(self, one: Sequence[np.ndarray], length: int) -> None:
        """Add a row from arrays (1, G, C, D) whose first `length` columns hold tokens; the first row is not copied."""
        row = len(self.lengths)
        if row == 0:
            self._arrays = list(one)
        else:
            rows, columns = self._arrays[0].shape[0], self._arrays[0].shape[2]
            if row == rows or columns < one[0].shape[2]:
                self._resize(2 * rows if row == rows else rows, max(columns, one[0].shape[2]))
            for array, new in zip(self._arrays, one, strict=True):
                array[row, :, :length] = new[0, :, :length]
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            for array in self._arrays:
                array[row, :, : self.lengths[last]] = array[last, :, : self.lengths[last]]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        if not self.lengths:
            self._arrays = []  # an idle server holds no memory

    def _resize(self, rows: int, columns: int) -> None:
        for number, old in enumerate(self._arrays):
            new = np.zeros((rows, old.shape[1], columns, old.shape[3]), old.dtype)  # untouched pages take no memory
            for row, length in enumerate(self.lengths):
                new[row, :, :length] = old[row, :, :length]
            self._arrays[number] = new
