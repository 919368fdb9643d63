"""Loops, into which small decoders fall: the same phrase over and over."""

from __future__ import annotations

LONGEST = 64
"""Pieces of the longest phrase that is noticed."""
TIMES, PIECES = 3, 40
"""A loop is a phrase said at least so often in a row, in at least so many pieces: rows of a table may be alike."""


class LoopDetector:
    """Notices when the pieces of a growing text repeat themselves."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._equal = [0] * (LONGEST + 1)
        """By length of a phrase: how many of the last pieces equal the one that many before."""

    def add(self, piece: str) -> bool:
        """Take the next piece; returns whether the text ends in a loop."""
        self._pieces.append(piece)
        for length in range(1, min(LONGEST, len(self._pieces) - 1) + 1):
            equal = self._equal[length] + 1 if piece == self._pieces[-1 - length] else 0
            self._equal[length] = equal
            if equal + length >= max(TIMES * length, PIECES) and _has_words(self._pieces[-length:]):
                return True
        return False


def _has_words(pieces: list[str]) -> bool:
    """Whether it is more than the rule of a table or a dotted line."""
    return any(char.isalnum() for piece in pieces for char in piece)
