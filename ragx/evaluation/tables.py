"""A table of estimates, as Markdown and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ragx.evaluation.bootstrap import Estimate
from ragx.util.terminal import plain

Cell = str | int | Estimate | None
"""None: not measured, for instance because a window is too small."""


@dataclass(frozen=True)
class Table:
    """A task's figures, one row per setting."""

    columns: Mapping[str, int]
    """Names, and the number of decimals of their estimates."""
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)
    """What was measured on how many examples, one line each."""

    def markdown(self) -> str:
        """A Markdown table; an estimate reads `value (low–high)`."""
        digits = list(self.columns.values())
        lines = [
            list(self.columns),
            ["---" if number == 0 else "---:" for number in range(len(digits))],
            *([_cell_text(cell, places) for cell, places in zip(row, digits, strict=True)] for row in self.rows),
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([table, *(plain(note) for note in self.notes)])

    def values(self) -> dict[str, object]:
        """The table as plain values for JSON."""
        rows = [
            {
                name: asdict(cell) if isinstance(cell, Estimate) else cell
                for name, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"rows": rows, "notes": list(self.notes)}


def _cell_text(cell: Cell, digits: int) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        return f"{cell.value:.{digits}f} ({cell.low:.{digits}f}–{cell.high:.{digits}f})"
    return plain(str(cell)).replace("|", "\\|")
