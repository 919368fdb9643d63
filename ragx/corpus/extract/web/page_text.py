"""The text of an HTML element as a reader sees it: one line per paragraph, list item, table row or line of code."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from ragx.corpus.extract.parsed import CELL_SEPARATOR, TextBuilder
from ragx.corpus.wiki.templates import superscript

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_PARAGRAPHS = frozenset(
    {"p", "pre", "blockquote", "table", "ul", "ol", "dl", "figure", "section", "article", "main", "aside", "details"}
    | {"header", "footer", "hgroup", "fieldset", "hr", "address", "center", "body"}
)
"""Blocks with an empty line before and behind."""
_LINES = frozenset(
    {"div", "li", "dt", "dd", "tr", "td", "th", "caption", "figcaption", "summary", "legend", "form", "option", "thead"}
    | {"tbody", "tfoot", "details", "title"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LAYOUT = frozenset({"table", "pre", "blockquote", "form", "article", "section", *_HEADINGS})
"""A table with one of these in a cell is not a data table: it arranges blocks on the page."""
_ITEM_CHARS = 400
"""A data table has shorter cells on average."""
_REPEATED_CELLS, _REPEATED_CHARS = 4, 60
"""Limits on cells that reach over several rows, for each row they are repeated in."""
_SUPERSCRIPT_PARTS = 8
"""A superscript of more elements is neither an exponent nor the mark of a note."""
_MATH_IMAGE = re.compile(r"math|latex|\btex\b", re.IGNORECASE)


def write_text(root: Element, text: TextBuilder, dropped: set[Element]) -> None:
    """Append the text of an element, without the dropped elements inside it."""
    from lxml.etree import iterwalk

    writer = _Writer(text)
    skipped: Element | None = None
    walk = iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if event == "start":
            if element in dropped or not writer.start(element):
                skipped = element
                walk.skip_subtree()
        else:
            if element is not skipped:
                writer.end(element)
            if element is not root:
                writer.write(element.tail)
    writer.flush()


class _Writer:
    """Turns the elements of a page, as they begin and end, into blocks of text."""

    def __init__(self, text: TextBuilder) -> None:
        self._text = text
        self._parts: list[str] = []
        self._separator = "\n\n"
        self._preserved = 0
        self._lists: list[int | None] = []
        """For each list around: the number of the next item, or None if it has no numbers."""
        self._marker = ""
        self._tight = 0
        """Elements around whose paragraphs follow one another without an empty line."""
        self._table: _Table | None = None

    def start(self, element: Element) -> bool:
        """Begin an element. False: there is nothing more to read in it."""
        tag = element.tag
        if instead := _replacement(element):
            self._parts.append(instead)
            return False
        if tag == "svg" or tag == "script":
            return False
        if tag == "br":
            self._parts.append("\n" if self._table is None else " ")
        elif tag == "q":
            self._parts.append("“")
        elif tag in _HEADINGS or tag in _PARAGRAPHS or tag in _LINES:
            self._start_block(element, tag)
        self.write(element.text)
        return True

    def _start_block(self, element: Element, tag: str) -> None:
        if self._table is not None:
            self._parts.append(" ")
            if tag in ("td", "th"):
                self._parts.clear()
            elif tag == "tr":
                self._table.start_row()
            return
        self._break(tag)
        if tag == "table" and _is_data(element):
            self._table = _Table(element)
            self._tight += 1
        elif tag == "pre":
            self._preserved += 1
        elif tag in ("ul", "ol"):
            self._lists.append(_first_number(element) if tag == "ol" else None)
        elif tag == "li":
            self._start_item()
        elif tag in ("dt", "dd"):
            self._tight += 1

    def _start_item(self) -> None:
        self._tight += 1
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        self._marker = f"{number}. " if number is not None else "- "

    def end(self, element: Element) -> None:
        tag = element.tag
        if tag == "q":
            self._parts.append("”")
        elif self._table is not None:
            self._end_in_table(self._table, element, tag)
        elif tag in _HEADINGS:
            self._end_heading(_HEADINGS[tag])
        elif tag in _PARAGRAPHS or tag in _LINES:
            self._break(tag)
            if tag == "pre":
                self._preserved -= 1
            elif tag in ("ul", "ol") and self._lists:
                self._lists.pop()
            elif tag in ("li", "dt", "dd"):
                self._tight -= 1
                self._marker = ""

    def _end_in_table(self, table: _Table, element: Element, tag: str) -> None:
        if tag in ("td", "th"):
            table.add_cell(self._take(), element)
        elif tag == "tr":
            self._add(table.row())
            self._parts.clear()
        elif tag == "caption":
            self._add(self._take())
        elif element is table.element:
            self._table = None
            self._tight -= 1
            self._break("table")
        elif tag in _HEADINGS or tag in _PARAGRAPHS or tag in _LINES:
            self._parts.append(" ")

    def _end_heading(self, level: int) -> None:
        self._text.heading(self._take(), level)
        self._marker, self._separator = "", "\n\n"

    def write(self, text: str | None) -> None:
        """Add text that is in no other element."""
        if text:
            self._parts.append(text if self._preserved else text.replace("\n", " "))

    def flush(self) -> None:
        self._add(self._take())

    def _break(self, tag: str) -> None:
        self.flush()
        loose = (tag in _PARAGRAPHS or tag in _HEADINGS) and not self._tight
        if loose or (tag in ("ul", "ol", "dl") and self._tight <= 1 and not self._lists):
            self._separator = "\n\n"

    def _take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        if self._preserved:
            return text.strip("\n")
        return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))

    def _add(self, block: str) -> None:
        if not block.strip():
            return
        if self._lists and self._tight:
            indent = "  " * (len(self._lists) - 1)
            block, self._marker = indent + (self._marker or "  ") + block, ""
        self._text.add(block, self._separator)
        self._separator = "\n"


class _Table:
    """Collects the cells of a data table row by row."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self._cells: list[str] = []
        self._spans: dict[int, tuple[str, int]] = {}
        """By column: the text of a cell from a row above, and in how many rows it is still to be repeated."""

    def start_row(self) -> None:
        self._cells = []

    def add_cell(self, text: str, element: Element) -> None:
        self._repeat()
        column = len(self._cells)
        self._cells.append(" ".join(text.split()))
        rows = _number(element.get("rowspan"))
        if rows > 1 and len(text) <= _REPEATED_CHARS and len(self._spans) < _REPEATED_CELLS:
            self._spans[column] = (self._cells[-1], rows)

    def row(self) -> str:
        self._repeat()
        self._spans = {column: (text, rows - 1) for column, (text, rows) in self._spans.items() if rows > 1}
        while self._cells and not self._cells[-1]:
            self._cells.pop()
        return CELL_SEPARATOR.join(self._cells)

    def _repeat(self) -> None:
        while span := self._spans.get(len(self._cells)):
            self._cells.append(span[0])


def _is_data(table: Element) -> bool:
    """Whether a table holds data: rows of short cells. Others arrange blocks on the page."""
    if table.get("role") in ("presentation", "none"):
        return False
    cells = chars = 0
    for element in table.iter():
        if element is not table and element.tag in _LAYOUT:
            return False
        cells += element.tag in ("td", "th")
        chars += len((element.text or "").strip()) + len((element.tail or "").strip())
    return cells > 1 and chars <= _ITEM_CHARS * cells


def _replacement(element: Element) -> str:
    """What stands for an element whose content reads otherwise; "" for others."""
    tag = element.tag
    if tag == "sup":
        return _superscript(element)
    if tag == "math":
        notes = element.xpath(".//*[local-name()='annotation'][contains(@encoding, 'tex')]")
        return " ".join(("".join(notes[0].itertext()) if notes else element.get("alttext") or "").split())
    if tag == "script":  # MathJax
        return f" {(element.text or '').strip()} " if element.get("type", "").startswith("math/tex") else ""
    if tag == "img":
        return element.get("alt", "") if _MATH_IMAGE.search(element.get("class", "")) else ""
    if tag == "ruby":
        return _ruby(element)
    return ""


def _superscript(element: Element) -> str:
    """An exponent in raised characters, or a mark of a note in brackets."""
    parts = list(islice(element.iter(), _SUPERSCRIPT_PARTS + 1))
    if len(parts) > _SUPERSCRIPT_PARTS:
        return ""
    text = "".join("".join(element.itertext()).split())
    if text and any(part.tag == "a" for part in parts):
        return f" {text}" if text.startswith(("[", "(")) else f" [{text}]"
    raised = superscript(text)
    return raised if raised != text else ""


def _ruby(element: Element) -> str:
    """The characters, then how they are pronounced in brackets."""
    base = "".join(map(str, element.xpath(".//text()[not(ancestor::rt or ancestor::rp)]")))
    reading = "".join("".join(rt.itertext()) for rt in element.iter("rt"))
    return f"{''.join(base.split())}({''.join(reading.split())})" if reading.strip() else ""


def _first_number(ordered_list: Element) -> int | None:
    """Of a list numbered in digits."""
    if ordered_list.get("type", "1") != "1":
        return None
    return _number(ordered_list.get("start", "1"))


def _number(value: str | None) -> int:
    return int(value) if value and re.fullmatch(r"[0-9]{1,5}", value.strip()) else 1
