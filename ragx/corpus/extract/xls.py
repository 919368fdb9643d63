"""Old and binary Excel workbooks (.xls, .xlsb), and what else bears their names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from ragx.corpus.extract import html, xlsx
from ragx.corpus.extract.office.package import OLE_MARK, Package, wrong_content
from ragx.corpus.extract.office.sheet import Row, write_rows
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError

_KIND = "an Excel workbook (.xls, .xlsb)"


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text of all sheets, each below its name. Many programs write HTML tables or .xlsx files under this suffix.

    Raises:
        UnreadableError: it is no workbook, damaged or encrypted.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t")
    if head.startswith(b"<"):
        return html.parse(path)
    if head.startswith(b"PK"):
        with Package(path, _KIND) as package:
            is_binary = package.main("").endswith(".bin")
        if not is_binary:
            return xlsx.parse(path, comments)
    elif not head.startswith(OLE_MARK):
        raise UnreadableError("is not an Excel workbook (.xls); if it is text, rename it to .csv or .tsv")
    try:
        workbook = CalamineWorkbook.from_path(path)
        text = TextBuilder()
        for name in workbook.sheet_names:
            sheet = TextBuilder()
            write_rows(_rows(workbook.get_sheet_by_name(name)), sheet)
            if sheet.text:
                text.heading(name, 1)
                text.add(sheet.text)
    except PasswordError:
        raise UnreadableError("is encrypted: save it without a password") from None
    except CalamineError:
        raise UnreadableError(wrong_content(path, _KIND, "Workbook")) from None
    return Parsed(text.text, headings=text.headings)


def _rows(sheet: Any) -> Iterator[Row]:
    top, left = sheet.start or (0, 0)
    for number, row in enumerate(sheet.iter_rows(), top):
        cells = {column: text for column, value in enumerate(row, left) if (text := _text(value))}
        if cells:
            yield Row(number, cells)


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).upper()
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
        case datetime() if not value.time():
            return value.date().isoformat()
        case datetime() | time():
            return value.isoformat(" ", "seconds") if isinstance(value, datetime) else value.isoformat("seconds")
        case timedelta():
            seconds = round(value.total_seconds())
            return f"{seconds // 3600}:{seconds // 60 % 60:02}"
    return str(value).strip()
