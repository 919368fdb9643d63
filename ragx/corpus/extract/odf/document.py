"""OpenDocument texts, spreadsheets, presentations and drawings (OASIS OpenDocument 1.3), zipped or flat XML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ragx.corpus.extract.odf.properties import properties
from ragx.corpus.extract.odf.rows import children, repeat_count, table_rows
from ragx.corpus.extract.odf.styles import Styles
from ragx.corpus.extract.office.comment import comment
from ragx.corpus.extract.office.package import Package, attribute, child, local, parse_xml
from ragx.corpus.extract.office.sheet import Row, write_rows
from ragx.corpus.extract.parsed import CELL_SEPARATOR, Parsed, TextBuilder, UnreadableError, clean
from ragx.util.text import counted

_KIND = "an OpenDocument file"
_LEFT_OUT = frozenset((
    "tracked-changes", "annotation", "note-citation", "ruby-text", "table-of-content-source", "index-title-template",
    "forms", "sequence-decls", "variable-decls", "user-field-decls",
))  # fmt: skip
_SHAPES = ("frame", "g", "custom-shape", "rect", "ellipse", "line", "connector", "caption", "path", "polygon")


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text of a document: paragraphs, lists, tables, notes, text boxes, equations, charts, headers and footers.

    Raises:
        UnreadableError: it is no OpenDocument file, damaged, encrypted, or unpacks to more than the limit.
    """
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if not is_zip and path.suffix.lower().startswith(".fod"):
        root = parse_xml(path.read_bytes())
        return _Document(root, root, root, lambda name: None, comments).parsed()
    with Package(path, _KIND) as package:
        if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
            raise UnreadableError("is encrypted: save it without a password")

        def part(name: str) -> Any:
            return package.xml(name) if name in package else None

        return _Document(package.xml("content.xml"), part("styles.xml"), part("meta.xml"), part, comments).parsed()


class _Document:
    def __init__(self, content: Any, styles: Any, meta: Any, part: Callable[[str], Any], comments: bool) -> None:
        """Args: `part`: gives the root of another part of the file by its name, or None."""
        self.content, self.styles, self.meta, self.part = content, styles, meta, part
        self.comments = comments
        self.text = TextBuilder()
        self.paged = False
        self._title = ""
        self._styles = Styles(styles, content)
        self._counts: Counter[tuple[str, int]] = Counter()
        """Items of the last list by style and depth, from 1."""
        self._unread: Counter[str] = Counter()
        self._after: list[Any] = []
        """Notes, text boxes and tables of the current paragraph or row, which follow it."""

    def parsed(self) -> Parsed:
        body = child(self.content, "body")
        for section in () if body is None else body:
            match local(section):
                case "spreadsheet":
                    self._write_sheets(section)
                case "presentation" | "drawing":
                    self._write_pages(section)
                case "text":
                    self.write(section)
                    self._write_headers()
        missing = [f"{counted(count, kind)} could not be read" for kind, count in self._unread.items()]
        title, metadata = properties(self.meta)
        return Parsed(self.text.text, title or self._title, self.text.headings, self.paged, metadata, missing)

    def write(self, container: Any) -> None:
        """Append the blocks of an element."""
        for element in container:
            match local(element):
                case "p":
                    self._write_paragraph(element)
                case "h":
                    level = attribute(element, "outline-level", "1")
                    self.text.heading(self._inline(element), int(level) if re.fullmatch("[1-9][0-9]?", level) else 1)
                    self._write_after()
                case "list" if element.find(".//{*}h") is None:  # some programs number headings by lists
                    for line, text in enumerate(self._list_lines(element, "", 1)):
                        self.text.add(text, "\n" if line else "\n\n")
                    self._write_after()
                case "table":
                    self._write_table(element)
                case "annotation" if self.comments:
                    self._after.append(element)
                    self._write_after()
                case kind if kind in _SHAPES:
                    self.text.add("".join(self._drawing(element)))
                    self._write_after()
                case kind if kind not in _LEFT_OUT:
                    self.write(element)

    def _write_paragraph(self, element: Any) -> None:
        text = self._inline(element)
        style = attribute(element, "style-name")
        if not self._title and "Title" in (style, self._styles.parents.get(style)):
            self._title = " ".join(clean(text).split())
        self.text.add(text)
        self._write_after()

    def _write_after(self) -> None:
        while self._after:
            after, self._after = self._after, []
            for element in after:
                if isinstance(element, str):
                    self.text.add(element)
                elif isinstance(element, list):
                    self.write(element)
                elif local(element) in ("note-body", "annotation"):
                    if note := " ".join(self._lines(element)):
                        is_comment = local(element) == "annotation"
                        self.text.add(comment(element.findtext("{*}creator"), note) if is_comment else f"Note: {note}")
                elif local(element) == "table":
                    self._write_table(element)
                else:
                    self.write(element)

    def _lines(self, container: Any) -> Iterator[str]:
        """The paragraphs and list items of a cell or a note. Its tables and boxes follow later."""
        for element in container:
            match local(element):
                case "p" | "h":
                    if text := self._inline(element).strip():
                        yield text
                case "list":
                    yield from self._list_lines(element, "", 1)
                case "table":
                    self._after.append(element)
                case "annotation" if self.comments:
                    self._after.append(element)
                case kind if kind in _SHAPES:
                    yield from self._drawing(element)
                case kind if kind not in _LEFT_OUT:
                    yield from self._lines(element)

    def _list_lines(self, element: Any, style: str, depth: int) -> Iterator[str]:
        style = attribute(element, "style-name") or style
        is_continued = attribute(element, "continue-numbering") == "true" or attribute(element, "continue-list")
        count = self._counts[style, depth] if is_continued else 0
        for item in element:
            label = ""
            if local(item) == "list-item":
                count = self._counts[style, depth] = count + 1
                label = self._styles.label(style, depth, count)
            for block in item:
                if local(block) == "list":
                    yield from self._list_lines(block, style, depth + 1)
                else:
                    for line in self._lines([block]):
                        yield "  " * min(depth - 1, 8) + label + line
                        label = "  " if label else ""

    def _inline(self, element: Any) -> str:
        return "".join(self._parts(element)).strip(" ")

    def _parts(self, container: Any) -> Iterator[str]:
        yield _collapsed(container.text)
        for element in container:
            match local(element):
                case "s":
                    count = attribute(element, "c", "1")
                    yield " " * int(count[:2] if count.isdecimal() else 1)
                case "tab":
                    yield "\t"
                case "line-break":
                    yield "\n"
                case "note":
                    self._after += element.iterfind("{*}note-body")
                case "annotation" if self.comments:
                    self._after.append(element)
                case kind if kind in _SHAPES:
                    yield from self._drawing(element)
                case kind if kind not in _LEFT_OUT:
                    yield from self._parts(element)
            yield _collapsed(element.tail)

    def _drawing(self, drawing: Any) -> Iterator[str]:
        """The equations of a drawing; its text boxes, tables and charts, and its description, follow later."""
        for element in drawing:
            match local(element):
                case "object" | "object-ole":
                    yield from self._object(element)
                case "p" | "list":
                    self._after.append([element])
                case "text-box" | "table":
                    self._after.append(element)
                case "desc":
                    self._after.append(element.text or "")
                case _:
                    yield from self._drawing(element)

    def _object(self, element: Any) -> Iterator[str]:
        """An equation in the format of its editor or as plain text; a chart follows later."""
        name = attribute(element, "href").removeprefix("./")
        root = self.part(f"{name}/content.xml") if name else next(iter(element), None)
        if root is None:
            self._unread["embedded object"] += 1
        elif local(root) == "math":
            source = next(root.iter("{*}annotation"), None)
            yield " ".join("".join(root.itertext() if source is None else source.itertext()).split())
        elif (chart := child(root, "body", "chart")) is not None:
            self._after += ["\n".join(self._lines(title)) for title in chart.iter("{*}title", "{*}subtitle")]
            self._after += chart.iter("{*}table")
        else:
            self._unread["embedded object"] += 1

    def _write_table(self, table: Any) -> None:
        separator = "\n\n"
        for cells, repeated in table_rows(table):
            if len(cells) == 1 and not repeated:  # a frame around text rather than a row
                self.write(next(iter(cells.values())))
                continue
            texts = repeated | {column: " ".join(" ".join(self._lines(cell)).split()) for column, cell in cells.items()}
            line = CELL_SEPARATOR.join(text for _, text in sorted(texts.items()))
            if any(texts.values()):
                self.text.add(line, separator)
                separator = "\n"
            self._write_after()

    def _write_sheets(self, spreadsheet: Any) -> None:
        for table in spreadsheet.iterfind("{*}table"):
            text, self.text = self.text, TextBuilder()
            write_rows(self._sheet_rows(table), self.text)
            self._write_after()
            for shapes in table.iterfind("{*}shapes"):
                self.write(shapes)
            sheet, self.text = self.text.text, text
            if sheet:
                text.heading(attribute(table, "name"), 1)
                text.add(sheet)

    def _sheet_rows(self, table: Any) -> Iterator[Row]:
        number = 0
        rows = children(table, "table-row")
        for row, (cells, repeated) in zip(rows, table_rows(table), strict=True):
            texts: dict[Any, str] = {}
            for column, cell in cells.items():
                if cell not in texts:
                    texts[cell] = (
                        " ".join(self._lines(cell)) or attribute(cell, "date-value") or attribute(cell, "value")
                    )
                repeated[column] = texts[cell]
            if any(texts.values()):
                yield Row(number, {column: text for column, text in sorted(repeated.items()) if text})
            number += repeat_count(row, "number-rows-repeated")

    def _write_pages(self, body: Any) -> None:
        self.paged = True
        for number, page in enumerate(body.iterfind("{*}page")):
            if number:
                self.text.page()
            for element in page:
                if local(element) == "notes":
                    if notes := "\n".join(line for box in element.iter("{*}text-box") for line in self._lines(box)):
                        self.text.add(f"Notes: {notes}")
                elif attribute(element, "class") == "title":
                    title = " ".join(line for box in element.iter("{*}text-box") for line in self._lines(box))
                    self.text.heading(title, 1)
                elif attribute(element, "placeholder") != "true":
                    self.write([element])
        for declared in body.iterfind("{*}footer-decl"):
            self.text.add(declared.text or "")
        if not self._title and self.text.headings:
            self._title = self.text.headings[0].text

    def _write_headers(self) -> None:
        """Append each text of the headers and footers once."""
        pages = () if self.styles is None else self.styles.iterfind("{*}master-styles/{*}master-page")
        text, seen = self.text, set()
        for header in (element for page in pages for element in page if re.match("header|footer", local(element))):
            self.text = TextBuilder()
            self.write(header)
            if any(map(str.isalpha, self.text.text)) and self.text.text not in seen:
                text.add(self.text.text)
            seen.add(self.text.text)
        self.text = text


def _collapsed(text: str | None) -> str:
    """White space in the XML is one space; more has elements of its own."""
    return re.sub(r"[ \t\r\n]+", " ", text) if text else ""
