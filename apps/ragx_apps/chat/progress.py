"""How far an answer is before its first word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ragx.types import Hit
from ragx.util.text import counted


@dataclass
class Progress:
    """Updated by the answering thread."""

    index: str
    hits: list[Hit] = field(default_factory=list)
    done: int = 0
    """Passages encoded so far."""
    total: int = 0
    """Passages that have to be encoded."""

    def found(self, hits: Sequence[Hit]) -> None:
        """Record the passages found; they are read next."""
        self.hits, self.done, self.total = [*hits], 0, 0

    def encoded(self, done: int, total: int) -> None:
        """Record how many passages are encoded."""
        self.done, self.total = done, total

    @property
    def line(self) -> str:
        """What is happening."""
        if not self.hits:
            return f"Searching “{self.index}” …"
        if self.done < self.total:
            return f"Encoding passages: {self.done} of {self.total} …"
        return f"Reading {counted(len(self.hits), 'passage')} …"
