"""Word documents (.docx, .docm, .dotx, .dotm), as they read with all tracked changes accepted.

The text is in WordprocessingML (ECMA-376 part 1, chapter 17). Libraries that read it leave out text boxes, notes,
headers, equations, fields, moved text or the numbers of lists, so it is read here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragx.corpus.extract.office.comment import comment
from ragx.corpus.extract.office.drawing import body_text, related_text
from ragx.corpus.extract.office.equation import equation_text
from ragx.corpus.extract.office.numbering import Numbering
from ragx.corpus.extract.office.package import Package, attribute, child, description, local
from ragx.corpus.extract.office.paragraph_style import Style, read_styles, with_own
from ragx.corpus.extract.office.symbol import symbol
from ragx.corpus.extract.parsed import CELL_SEPARATOR, REPEATED_CHARS, Parsed, TextBuilder, clean
from ragx.util.text import counted

_LEFT_OUT = frozenset(("del", "moveFrom", "delText", "instrText", "rt", "pPr", "rPr", "sectPr", "sdtPr"))


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text of a document: paragraphs, lists with their numbers, tables, notes, text boxes, headers and footers.

    Raises:
        UnreadableError: it is no Word document, damaged, encrypted, or unpacks to more than the limit.
    """
    with Package(path, "a Word document (.docx)") as package:
        document = _Document(package, comments)
        body = document.root.find("{*}body")
        if body is not None:
            document.write(body)
        document.write_headers()
        title, metadata = package.properties()
        return Parsed(
            document.text.text,
            title or document.title,
            headings=document.text.headings,
            metadata=metadata,
            missing=document.missing(),
        )


class _Document:
    def __init__(self, package: Package, comments: bool) -> None:
        self.package = package
        self.part = package.main("word/document.xml")
        self.root = package.xml(self.part)
        self.text = TextBuilder()
        self.title = ""
        self._styles = read_styles(self._related("styles"))
        self._numbering = Numbering(self._related("numbering"))
        self._notes = {
            kind: {attribute(note, "id"): note for note in self._related(f"{kind}s", empty=())}
            for kind in ("footnote", "endnote", *(["comment"] if comments else []))
        }
        self._unread: Counter[str] = Counter()
        self._fields: list[bool] = []
        """For each open field whether its result has begun."""
        self._joined = ""
        """A paragraph whose end was deleted, so that the next one continues it."""
        self._after: list[Any] = []
        """Text boxes, notes and tables of the current paragraph or row, which follow it."""
        self._in_list = False

    def _related(self, type: str, empty: Any = None) -> Any:
        return next(map(self.package.xml, self.package.related(self.part, type)), empty)

    def write(self, container: Any) -> None:
        """Append the blocks of an element."""
        for element, kind in _blocks(container):
            if kind == "tbl":
                self._write_joined()
                self._write_table(element)
            elif kind == "p":
                self._write_paragraph(element)
            else:
                self._unread["embedded file" if kind == "altChunk" else "linked document"] += 1
        self._write_joined()

    def write_headers(self) -> None:
        """Append each text of the headers and footers once."""
        relations = self.package.relations(self.part)
        text = self.text
        seen = set()
        for reference in self.root.iter("{*}headerReference", "{*}footerReference"):
            _, self.part = relations.get(attribute(reference, "id"), ("", ""))
            if self.part not in self.package or self.part in seen:
                continue
            self.text = TextBuilder()
            self.write(self.package.xml(self.part))
            if self.text.text not in seen and any(map(str.isalpha, self.text.text)):
                text.add(self.text.text)
            seen |= {self.part, self.text.text}
        self.text = text

    def missing(self) -> list[str]:
        return [f"{counted(count, kind)} could not be read" for kind, count in self._unread.items()]

    def _write_paragraph(self, paragraph: Any) -> None:
        properties = child(paragraph, "pPr")
        style = self._style(properties)
        text = self._joined + self._inline(paragraph)
        self._joined = ""
        if child(properties, "rPr", "del") is not None or child(properties, "rPr", "moveFrom") is not None:
            self._joined = text
            return
        label = self._numbering.label(*style.list) if text.strip() else ""
        if style.title and not self.title:
            self.title = " ".join(clean(text).split())
        if style.level:
            self.text.heading(label.removeprefix("- ") + text, style.level)
        else:
            indent = "  " * style.list[1] if label else ""
            self.text.add(indent + label + text.strip("\n"), "\n" if label and self._in_list else "\n\n")
        if text.strip():
            self._in_list = bool(label) and not style.level
        self._write_after()

    def _write_joined(self) -> None:
        self.text.add(self._joined)
        self._joined = ""

    def _write_after(self) -> None:
        while self._after:
            after, self._after = self._after, []
            for element in after:
                if isinstance(element, str):
                    self.text.add(element)
                elif local(element) in ("footnote", "endnote", "comment"):
                    if note := " ".join(self._lines(element)):
                        is_comment = local(element) == "comment"
                        self.text.add(comment(attribute(element, "author"), note) if is_comment else f"Note: {note}")
                elif local(element) == "tbl":
                    self._write_table(element)
                else:
                    self.write(element)
                self._in_list = False

    def _write_table(self, table: Any) -> None:
        above: dict[int, str] = {}
        separator = "\n\n"
        for row in _children(table, "tr"):
            if child(row, "trPr", "del") is not None:
                continue
            cells = [cell for cell in _children(row, "tc") if child(cell, "tcPr", "cellDel") is None]
            if len(cells) == 1:  # a frame around text rather than a row
                self.write(cells[0])
                continue
            column, texts = 0, []
            for cell in cells:
                merged = child(cell, "tcPr", "vMerge")
                if merged is not None and attribute(merged, "val", "continue") == "continue":
                    texts.append(above.get(column, ""))
                else:
                    texts.append(" ".join(" ".join(self._lines(cell)).split()))
                    above[column] = texts[-1] if merged is not None and len(texts[-1]) <= REPEATED_CHARS else ""
                span = child(cell, "tcPr", "gridSpan")
                width = "" if span is None else attribute(span, "val")
                column += int(width) if re.fullmatch(r"[1-9]\d{0,2}", width) else 1
            if any(texts):
                self.text.add(CELL_SEPARATOR.join(texts), separator)
                separator = "\n"
            self._write_after()
        self._in_list = False

    def _lines(self, container: Any) -> Iterator[str]:
        """The paragraphs of a cell, a note or a header. Its tables and boxes follow later."""
        for element, kind in _blocks(container):
            if kind == "tbl":
                self._after.append(element)
            elif kind == "p":
                text = self._inline(element)
                label = self._numbering.label(*self._style(child(element, "pPr")).list) if text.strip() else ""
                if text.strip():
                    yield label + text.strip()
            else:
                self._unread["embedded file"] += 1

    def _inline(self, paragraph: Any) -> str:
        text = "".join(self._parts(paragraph))
        self._fields = [begun for begun in self._fields if begun]  # a field that never gets a result hides nothing
        return text

    def _parts(self, container: Any) -> Iterator[str]:
        for element in container:
            match local(element):
                case "t":
                    if self._is_shown():
                        yield element.text or ""
                case "tab" | "ptab":
                    yield "\t"
                case "br" | "cr":
                    yield "\n"
                case "noBreakHyphen":
                    yield "-"
                case "sym":
                    yield symbol(attribute(element, "font"), attribute(element, "char"))
                case "fldChar":
                    yield from self._field(element)
                case "oMath" | "oMathPara":
                    yield equation_text(element)
                case "footnoteReference" | "endnoteReference" | "commentReference" as kind:
                    notes = self._notes.get(kind.removesuffix("Reference"), {})
                    note = notes.pop(attribute(element, "id"), None)
                    if note is not None:
                        self._after.append(note)
                case "AlternateContent":
                    yield from self._alternative(element)
                case "txbxContent":
                    self._after.append(element)
                case "txBody":
                    self._after.append(body_text(element))
                case "textpath":
                    self._after.append(attribute(element, "string"))
                case "graphicData":
                    self._after += related_text(self.package, self.part, element)
                    yield from self._parts(element)
                case "docPr":
                    self._after += filter(None, [description(element)])
                case "OLEObject":
                    self._unread["embedded object"] += 1
                case kind if kind not in _LEFT_OUT:
                    yield from self._parts(element)

    def _is_shown(self) -> bool:
        """Whether text is not the result of a field inside the instruction of another field."""
        return not self._fields or not self._fields[-1] or all(self._fields)

    def _field(self, element: Any) -> Iterator[str]:
        match attribute(element, "fldCharType"):
            case "begin":
                self._fields.append(False)
                yield _form_value(element)
            case "separate" if self._fields:
                self._fields[-1] = True
            case "end" if self._fields:
                self._fields.pop()

    def _alternative(self, element: Any) -> Iterator[str]:
        """The first of several forms of the same content that has text."""
        for choice in element:
            before = len(self._after)
            unread = self._unread.copy()
            parts = list(self._parts(choice))
            if any(map(str.strip, parts)) or len(self._after) > before or choice is element[-1]:
                yield from parts
                return
            self._unread = unread

    def _style(self, properties: Any) -> Style:
        named = child(properties, "pStyle")
        style = self._styles.get(attribute(named, "val") if named is not None else "", Style())
        return style if properties is None else with_own(style, properties)


def _blocks(container: Any) -> Iterator[tuple[Any, str]]:
    """The paragraphs, tables and embedded files, with their kinds, in any wrapping."""
    for element in container:
        kind = local(element)
        if kind in ("p", "tbl", "altChunk", "subDoc"):
            yield element, kind
        elif kind == "AlternateContent":
            yield from next(filter(None, (list(_blocks(choice)) for choice in element)), [])
        elif kind not in _LEFT_OUT:
            yield from _blocks(element)


def _children(parent: Any, kind: str) -> Iterator[Any]:
    """The rows of a table or the cells of a row, in any wrapping."""
    for element in parent:
        found = local(element)
        if found == kind:
            yield element
        elif found in ("sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"):
            yield from _children(element, kind)


def _form_value(field: Any) -> str:
    """The state of a check box or the choice of a drop-down list, which are no text."""
    form = child(field, "ffData")
    if (box := child(form, "checkBox")) is not None:
        state = next(filter(lambda state: state is not None, (child(box, "checked"), child(box, "default"))), None)
        return "☒" if state is not None and attribute(state, "val", "1") in ("1", "true", "on") else "☐"
    if (choice := child(form, "ddList")) is not None:
        entries = [attribute(entry, "val") for entry in choice.iterfind("{*}listEntry")]
        chosen = child(choice, "result")
        index = attribute(chosen, "val") if chosen is not None else "0"
        return entries[int(index)] if re.fullmatch(r"\d{1,3}", index) and int(index) < len(entries) else ""
    return ""
