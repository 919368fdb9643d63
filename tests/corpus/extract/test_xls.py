"""Old and binary workbooks, and other formats under their suffixes."""

from __future__ import annotations

import struct

import pytest

from ragx.corpus.extract import xls
from ragx.corpus.extract.parsed import UnreadableError
from tests.helpers.office import OLD_WORKBOOK, old_office_file, relations, write_parts, xml


def test_an_old_workbook(tmp_path):
    path = tmp_path / "a.xls"
    path.write_bytes(OLD_WORKBOOK)
    parsed = xls.parse(path)
    assert parsed.text == (
        "Rents\n\nName | From | Rent\nName: Sand; From: 1931-03-01; Rent: 900.5\n"
        "Name: Olm é漢; From: 1931-03-01 14:05:00; Rent: TRUE\n\nPaid\n\n1"
    )
    assert [heading.text for heading in parsed.headings] == ["Rents", "Paid"]


def record(id: int, data: bytes = b"") -> bytes:
    """A record of a binary workbook ([MS-XLSB], section 2.1.4)."""
    head = bytes([id]) if id < 128 else bytes([id & 0x7F | 0x80, id >> 7])
    return head + bytes([len(data)]) + data


def string(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def test_a_binary_workbook(tmp_path):
    sheets = record(143) + record(156, struct.pack("<II", 0, 1) + string("r1") + string("Rents")) + record(144)
    rows = b"".join(
        record(0, struct.pack("<IIHHBBI", number, 0, 300, 0, 0, 0, 0))
        + record(6, struct.pack("<II", 0, 0) + string(name))
        + value
        for number, (name, value) in enumerate(
            [
                ("Name", record(6, struct.pack("<II", 1, 0) + string("Rent"))),
                ("Sand", record(5, struct.pack("<IId", 1, 0, 900.5))),
            ]
        )
    )
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations({"officeDocument": "xl/workbook.bin"}),
        "xl/_rels/workbook.bin.rels": relations({"worksheet:r1": "worksheets/sheet1.bin"}),
        "xl/workbook.bin": record(131) + sheets + record(132),
        "xl/worksheets/sheet1.bin": record(129)
        + record(148, struct.pack("<IIII", 0, 1, 0, 1))
        + record(145)
        + rows
        + record(146)
        + record(130),
    }
    path = write_parts(tmp_path / "a.xlsb", parts)
    assert xls.parse(path).text == "Rents\n\nName | Rent\nName: Sand; Rent: 900.5"


def test_other_formats_under_the_suffix_are_read(tmp_path):
    path = tmp_path / "a.xls"
    path.write_text("<html><body><table><tr><td>Sand</td><td>900</td></tr></table></body></html>")
    assert "Sand" in xls.parse(path).text
    sheet = xml("x:worksheet", "<x:sheetData><x:row><x:c><x:v>900</x:v></x:c></x:row></x:sheetData>")
    parts = {
        "_rels/.rels": relations({"officeDocument": "xl/workbook.xml"}),
        "xl/workbook.xml": xml("x:workbook", '<x:sheets><x:sheet name="Rents" r:id="r1"/></x:sheets>'),
        "xl/_rels/workbook.xml.rels": relations({"worksheet:r1": "sheet.xml"}),
        "xl/sheet.xml": sheet,
    }
    assert xls.parse(write_parts(path, parts)).text == "Rents\n\n900"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Name\tRent\nSand\t900\n", "rename it to .csv or .tsv"),
        (b"", "is not an Excel workbook"),
        (OLD_WORKBOOK[:2000], "is not an Excel workbook"),
        (old_office_file("EncryptedPackage"), "is encrypted"),
        (old_office_file("WordDocument"), "save it as .docx"),
        (b"PK\3\4", "is not an Excel workbook"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, data, message):
    path = tmp_path / "a.xls"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=message):
        xls.parse(path)
