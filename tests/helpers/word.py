"""Runs, paragraphs and tables of Word documents."""

from __future__ import annotations


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*texts: str, properties: str = "") -> str:
    """Texts that are no elements become runs."""
    content = "".join(text if text.startswith("<") else run(text) for text in texts)
    return f"<w:p><w:pPr>{properties}</w:pPr>{content}</w:p>"


def row_table(rows: list[list[str]], wrap: str = "{}") -> str:
    """A table; cells that are no elements become paragraphs. `wrap`: around each row."""
    cells = [[cell if cell.startswith("<") else paragraph(cell) for cell in row] for row in rows]
    cells = [[cell if "<w:tc>" in cell[:6] else f"<w:tc>{cell}</w:tc>" for cell in row] for row in cells]
    lines = (wrap.format(f"<w:tr>{''.join(row)}</w:tr>") for row in cells)
    return f"<w:tbl>{''.join(lines)}</w:tbl>"
