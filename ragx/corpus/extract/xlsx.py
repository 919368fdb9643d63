"""Excel workbooks (.xlsx, .xlsm, .xltx, .xltm): all sheets, also hidden ones.

The format is SpreadsheetML (ECMA-376 part 1, chapter 18). It is read row by row here, because libraries either build
the rectangle around all cells, which one stray cell makes huge, or lose the formats that tell dates and percentages
from other numbers.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from ragx.corpus.extract.office.comment import sheet_comments
from ragx.corpus.extract.office.drawing import body_text
from ragx.corpus.extract.office.package import PARSER_OPTIONS, Package, attribute, child, refuse_entities
from ragx.corpus.extract.office.sheet import Row, write_rows
from ragx.corpus.extract.parsed import REPEATED_CHARS, Parsed, TextBuilder, UnreadableError

_BUILT_IN = {
    **dict.fromkeys(map(str, (9, 10)), "%"),
    **dict.fromkeys(map(str, (*range(14, 18), *range(27, 37), *range(50, 59))), "d"),
    **dict.fromkeys(map(str, (18, 19, 20, 21, 45, 47)), "h"),
    "22": "dh",
    "46": "[h]",
}
"""Formats of numbers without a code in the file (ECMA-376 part 1, section 18.8.30)."""
_NOT_CODE = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!(?:h+|m+|s+)\])[^\]]*\]', re.I)
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell [^<>]*?ref="([A-Z]{1,3})(\d{1,7}):\1(\d{1,7})"')
"""A cell merged over rows of one column."""


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text of all sheets, each below its name.

    Raises:
        UnreadableError: it is no workbook, damaged, encrypted, or unpacks to more than the limit.
    """
    with Package(path, "an Excel workbook (.xlsx)") as package:
        part = package.main("xl/workbook.xml")
        workbook = package.xml(part)
        cells = _Cells(package, part, workbook)
        relations = package.relations(part)
        text = TextBuilder()
        missing = []
        for sheet in workbook.iterfind("{*}sheets/{*}sheet"):
            kind, target = relations.get(attribute(sheet, "id"), ("", ""))
            name = sheet.get("name", "")
            sheet_text = TextBuilder()
            try:
                if kind == "worksheet":
                    write_rows(cells.rows(package.read(target)), sheet_text)
                for drawing in package.related(target, "drawing"):
                    for body in package.xml(drawing).iter("{*}txBody"):
                        sheet_text.add(body_text(body))
                for comment in sheet_comments(package, part, target) if comments else ():
                    sheet_text.add(comment)
            except UnreadableError as error:
                missing.append(f"sheet {name} {error}")
            if sheet_text.text:
                text.heading(name, 1)
                text.add(sheet_text.text)
        if cells.unsaved:
            missing.append(f"{cells.unsaved} formulas without saved values: save the file in a spreadsheet program")
        title, metadata = package.properties()
        return Parsed(text.text, title, text.headings, metadata=metadata, missing=missing)


class _Cells:
    """Reads the cells of a workbook."""

    def __init__(self, package: Package, part: str, workbook: Any) -> None:
        def related(type: str) -> bytes | None:
            return next(map(package.read, package.related(part, type)), None)

        self.unsaved = 0
        """Formulas without a result in the file."""
        self._strings = [_string(item) for item in _elements(related("sharedStrings"), "si")]
        codes: dict[str, str] = {}
        self._formats: dict[str, str] = {}
        """By the numbers of styles."""
        for element in _elements(related("styles"), "numFmts", "cellXfs"):
            for format in element.iterfind("{*}numFmt"):
                codes[format.get("numFmtId", "")] = _kind(format.get("formatCode", ""))
            for style in element.iterfind("{*}xf"):
                id = style.get("numFmtId", "0")
                self._formats[str(len(self._formats))] = codes.get(id) or _BUILT_IN.get(id, "")
        properties = child(workbook, "workbookPr")
        is_1904 = properties is not None and attribute(properties, "date1904") in ("1", "true")
        self._epoch = datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 30)

    def rows(self, sheet: bytes) -> Iterator[Row]:
        """The rows that are not empty. A cell that is merged over rows stands in each of them."""
        merged: dict[tuple[int, int], int] = {}
        for column, first, last in _MERGED.findall(sheet):
            merged[int(first), _column(column.decode())] = int(last)
        above: dict[int, tuple[int, str]] = {}
        number = 0
        for element in _elements(sheet, "row"):
            reference = element.get("r", "")
            number = int(reference) if re.fullmatch(r"\d{1,7}", reference) else number + 1
            cells: dict[int, str] = {}
            column = 0
            for cell in element:
                letters = cell.get("r", "").rstrip("0123456789")
                column = _column(letters) if letters else column + 1
                if value := self._value(cell):
                    cells[column] = value
                    if (last := merged.get((number, column), 0)) and len(value) <= REPEATED_CHARS:
                        above[column] = last, value
            if cells:
                above = {column: (last, value) for column, (last, value) in above.items() if last >= number}
                cells = {column: value for column, (_, value) in above.items()} | cells
                yield Row(number, dict(sorted(cells.items())))

    def _value(self, cell: Any) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return _string(cell).strip()
        raw = ""
        has_formula = False
        for element in cell:
            if element.tag.endswith("}v"):
                raw = (element.text or "").strip()
            elif element.tag.endswith("}f"):
                has_formula = True
        if not raw:
            self.unsaved += has_formula and kind != "str"
            return ""
        match kind:
            case "s":
                return self._strings[int(raw)].strip() if raw.isdecimal() and int(raw) < len(self._strings) else ""
            case "b":
                return "TRUE" if raw == "1" else "FALSE"
            case "n":
                return self._number(raw, self._formats.get(cell.get("s", ""), ""))
        return raw

    def _number(self, raw: str, format: str) -> str:
        if not format and raw.isdecimal():
            return raw
        try:
            value = float(raw)
        except ValueError:
            return raw
        if not math.isfinite(value):
            return raw
        if format == "%":
            return f"{value * 100:.12g}%"
        if format and 0 <= value < 2_958_466:  # up to the year 9999
            seconds = round(value * 86400)
            if format == "[h]":
                return f"{seconds // 3600}:{seconds // 60 % 60:02}" + (f":{seconds % 60:02}" if seconds % 60 else "")
            # 1900 is wrongly a leap year, and its days before the wrong one are shifted
            shift = 1 if value < 60 and "d" in format and self._epoch.year < 1900 else 0
            time = self._epoch + timedelta(days=shift, seconds=seconds)
            clock = time.strftime("%H:%M:%S" if time.second else "%H:%M")
            return " ".join(text for letter, text in (("d", time.date().isoformat()), ("h", clock)) if letter in format)
        return raw if re.fullmatch(r"-?\d+", raw) else f"{value:.15g}"


def _elements(part: bytes | None, *names: str) -> Iterator[Any]:
    """The elements of some names, each dropped when the next is asked for."""
    from lxml.etree import XMLSyntaxError, iterparse

    if part is None:
        return
    try:
        for _, element in iterparse(BytesIO(part), tag=[f"{{*}}{name}" for name in names], **PARSER_OPTIONS):
            refuse_entities(element)
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    except XMLSyntaxError as error:
        raise UnreadableError(f"is damaged: {error}") from None


def _string(item: Any) -> str:
    """The text of a string with runs, without its reading aids."""
    texts = item.iterfind("{*}is/{*}t" if item.find("{*}is") is not None else "{*}t")
    runs = item.iterfind("{*}is/{*}r/{*}t" if item.find("{*}is") is not None else "{*}r/{*}t")
    return "".join(element.text or "" for element in (*texts, *runs))


@functools.lru_cache(1 << 14)
def _column(letters: str) -> int:
    number = 0
    for letter in letters[:3]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _kind(code: str) -> str:
    """What a format makes of a number: "%", "d" (date), "h" (time), "dh", "[h]" (duration), or nothing special."""
    code = _NOT_CODE.sub("", code.partition(";")[0]).lower().replace("general", "")
    if "[" in code:
        return "[h]"
    if "%" in code:
        return "%"
    has_time = bool(re.search("[hs]", code))
    has_date = bool(re.search("[dy]", code)) or ("m" in code and not has_time)
    return "d" * has_date + "h" * has_time
