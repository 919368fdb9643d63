"""A text in an RTF file: paragraphs, lists and tables as they are built up."""

from __future__ import annotations

from dataclasses import dataclass, field

from ragx.corpus.extract.parsed import CELL_SEPARATOR, REPEATED_CHARS, TextBuilder


@dataclass(slots=True)
class Story:
    """A text of its own: the document's, a note's, a header's."""

    text: TextBuilder = field(default_factory=TextBuilder)
    runs: list[str] = field(default_factory=list)
    label: str = ""
    in_list: bool = False
    cell: list[str] = field(default_factory=list)
    """The paragraphs of the current cell."""
    cells: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    """Notes, text boxes and rows of inner tables, which follow the paragraph or row."""
    merges: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    in_rows: bool = False

    def paragraph(self) -> str:
        text, self.runs = "".join(self.runs).strip(" "), []
        # a character above U+FFFF is written as two
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def end_paragraph(self, level: int = 0, in_table: bool = False, list_level: int = 0) -> None:
        text, label = self.paragraph(), self.label
        self.label = ""
        if in_table:
            self.cell.append(label + text)
            return
        if level and text.strip():
            self.text.heading(label.removeprefix("- ") + text, level)
        elif text.strip():
            self.text.add("  " * list_level * bool(label) + label + text, "\n" if label and self.in_list else "\n\n")
        if text.strip():
            self.in_list = bool(label) and not level
            self.in_rows = False
        self._write_after()

    def end_row(self) -> None:
        texts = []
        for column, text in enumerate(self.cells):
            merge = self.merges[column] if column < len(self.merges) else ""
            if merge == "clvmrg" and not text and column < len(self.above):
                self.cells[column] = text = self.above[column]
            if merge != "clmrg":
                texts.append(text)
        self.above = [text if len(text) <= REPEATED_CHARS else "" for text in self.cells]
        if any(texts):
            self.text.add(CELL_SEPARATOR.join(texts), "\n" if self.in_rows else "\n\n")
        self.cells, self.in_rows, self.in_list = [], not self.after, False
        self._write_after()

    def finish(self) -> str:
        self.end_paragraph()
        self.cells += [" ".join(self.cell)] if self.cell else []
        self.end_row()
        return self.text.text

    def _write_after(self) -> None:
        after, self.after = self.after, []
        for text in after:
            self.text.add(text)
            self.in_list = False
