"""A table of estimates, as Markdown, CSV, LaTeX and plain values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate
from ragx.util.files import durable_file
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
    row_decimals: Sequence[int] = ()
    """Numbers of decimals of the rows, where these differ and not the columns."""

    def markdown(self) -> str:
        """A Markdown table; an estimate reads `value (low–high)`."""
        lines = [
            list(self.columns),
            ["---" if number == 0 else "---:" for number in range(len(self.columns))],
            *self._lines(_cell_text),
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([table, *(plain(note) for note in self.notes)])

    def csv(self) -> str:
        """Comma-separated values; an estimate takes three columns: its value, and `low` and `high` of its interval."""
        estimated = [any(isinstance(row[place], Estimate) for row in self.rows) for place in range(len(self.columns))]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        suffixes = [("", " low", " high") if each else ("",) for each in estimated]
        writer.writerow([name + end for name, ends in zip(self.columns, suffixes, strict=True) for end in ends])
        for row in self.rows:
            cells: list[object] = []
            for cell, is_estimate in zip(row, estimated, strict=True):
                if isinstance(cell, Estimate):
                    cells += [cell.value, cell.low, cell.high]
                else:
                    cells += [cell, None, None] if is_estimate else [cell]
            writer.writerow(cells)
        return file.getvalue()

    def latex(self) -> str:
        """A LaTeX tabular for the package booktabs, without intervals."""
        lines = [[_latex_text(name) for name in self.columns], *self._lines(_latex_cell)]
        head, *body = [f"{' & '.join(line)} \\\\" for line in lines]
        first = rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}"
        return "\n".join([first, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])

    def _lines(self, text: Callable[[Cell, int], str]) -> Iterator[list[str]]:
        """The cells of each row as text."""
        for number, row in enumerate(self.rows):
            decimals = [self.row_decimals[number]] * len(row) if self.row_decimals else self.columns.values()
            yield [text(cell, places) for cell, places in zip(row, decimals, strict=True)]

    def save(self, prefix: Path) -> None:
        """Write `PREFIX.md`, `PREFIX.csv` and `PREFIX.tex`, each atomically.

        Raises:
            ConfigError: one cannot be written.
        """
        prefix.parent.mkdir(parents=True, exist_ok=True)
        for ending, text in ((".md", self.markdown() + "\n"), (".csv", self.csv()), (".tex", self.latex())):
            with durable_file(prefix.with_name(prefix.name + ending), ConfigError) as file:
                file.write(text.encode())

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


def _latex_cell(cell: Cell, digits: int) -> str:
    if cell is None:
        return "--"
    return f"{cell.value:.{digits}f}" if isinstance(cell, Estimate) else _latex_text(str(cell))


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _latex_text(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: _LATEX.get(found[0], f"\\{found[0]}"), plain(text))
