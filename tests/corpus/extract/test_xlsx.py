"""Workbooks are read whole, with the formats of their numbers."""

from __future__ import annotations

import time

import pytest

from ragx.corpus import Skipped
from ragx.corpus.extract import xlsx
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import core_properties, old_office_file, relations, write_parts, xml

CODES = [
    "0.0%",
    'dd"."mm"."yyyy',
    "[$-407]d. mmmm",
    "h:mm AM/PM",
    "[h]:mm:ss",
    '0.00 "days"',
    "[Red]0.00",
    "d/m/yy hh:mm",
]


@pytest.fixture
def parse(tmp_path):
    """Parse a workbook of sheets, each the XML of its rows. `strings`: shared strings, as XML."""

    def parse(
        *sheets: str, strings: str = "", names: tuple[str, ...] = (), is_1904: bool = False, **parts: str
    ) -> Parsed:
        names = names or tuple(f"Sheet{number}" for number in range(1, len(sheets) + 1))
        listed = "".join(
            f'<x:sheet name="{name}" sheetId="{number}" state="hidden" r:id="s{number}"/>'
            for number, name in enumerate(names)
        )
        formats = "".join(
            f"<x:numFmt numFmtId='{164 + number}' formatCode='{code}'/>" for number, code in enumerate(CODES)
        )
        styles = "".join(f'<x:xf numFmtId="{164 + number}"/>' for number in range(len(CODES)))
        styles += '<x:xf numFmtId="14"/><x:xf numFmtId="10"/><x:xf numFmtId="0"/>'
        targets = {f"worksheet:s{number}": f"worksheets/{number}.xml" for number in range(len(sheets))}
        members = {
            "_rels/.rels": relations({"officeDocument": "xl/workbook.xml", "core-properties": "core.xml"}),
            "core.xml": core_properties("Rents", "Olm"),
            "xl/workbook.xml": xml(
                "x:workbook", f'<x:workbookPr date1904="{int(is_1904)}"/><x:sheets>{listed}</x:sheets>'
            ),
            "xl/_rels/workbook.xml.rels": relations(
                targets | {"sharedStrings:t1": "strings.xml", "styles:t2": "styles.xml"}
            ),
            "xl/strings.xml": xml("x:sst", strings),
            "xl/styles.xml": xml("x:styleSheet", f"<x:numFmts>{formats}</x:numFmts><x:cellXfs>{styles}</x:cellXfs>"),
            "xl/worksheets/_rels/0.xml.rels": relations({key.replace("_", ":"): f"{key}.xml" for key in parts}),
        }
        members |= {f"xl/worksheets/{number}.xml": sheet for number, sheet in enumerate(map(worksheet, sheets))}
        members |= {f"xl/worksheets/{key}.xml": part for key, part in parts.items()}
        return xlsx.parse(write_parts(tmp_path / "a.xlsx", members))

    return parse


def worksheet(rows: str) -> str:
    data, _, merged = rows.partition("<x:mergeCells>")
    return xml("x:worksheet", f"<x:sheetData>{data}</x:sheetData>" + (f"<x:mergeCells>{merged}" if merged else ""))


def row(*values: str | float) -> str:
    """A row of texts, numbers and the XML of cells, whose places are left out as some programs do."""
    cells = (
        value
        if str(value).startswith("<")
        else f'<x:c t="inlineStr"><x:is><x:t>{value}</x:t></x:is></x:c>'
        if isinstance(value, str)
        else f"<x:c><x:v>{value}</x:v></x:c>"
        for value in values
    )
    return f"<x:row>{''.join(map(str, cells))}</x:row>"


def test_sheets_are_sections_also_hidden_ones(parse):
    parsed = parse(row("Name", "Rent") + row("Sand", 900), "", row("Paid"), names=("Rents", "Empty", "Debts"))
    assert parsed.text == "Rents\n\nName | Rent\nName: Sand; Rent: 900\n\nDebts\n\nPaid"
    assert [heading.text for heading in parsed.headings] == ["Rents", "Debts"]
    assert (parsed.title, parsed.metadata) == ("Rents", {"author": "Olm"})


def cell(content: str, kind: str = "n", style: int = 10) -> str:
    return f'<x:c t="{kind}" s="{style}">{content}</x:c>'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (cell("<x:v>0</x:v>", "s"), "shared"),
        (cell("<x:v>1</x:v>", "s"), "rich text"),
        (cell("<x:v>9</x:v>", "s"), ""),
        (cell("<x:is><x:r><x:t>in</x:t></x:r><x:r><x:t>line</x:t></x:r></x:is>", "inlineStr"), "inline"),
        (cell("<x:f>A1</x:f><x:v>result</x:v>", "str"), "result"),
        (cell("<x:v>1</x:v>", "b"), "TRUE"),
        (cell("<x:v>#DIV/0!</x:v>", "e"), "#DIV/0!"),
        (cell("<x:v>2024-02-29</x:v>", "d"), "2024-02-29"),
        (cell("<x:v>0.30000000000000004</x:v>"), "0.3"),
        (cell("<x:v>12345678901234567</x:v>"), "12345678901234567"),
        (cell("<x:v>1E3</x:v>"), "1000"),
        (cell("<x:v>nan</x:v>"), "nan"),
        (cell("<x:v>0.256</x:v>", style=0), "25.6%"),
        (cell("<x:v>0.256</x:v>", style=9), "25.6%"),
        (cell("<x:v>45351</x:v>", style=1), "2024-02-29"),
        (cell("<x:v>45351</x:v>", style=2), "2024-02-29"),
        (cell("<x:v>45351.5</x:v>", style=8), "2024-02-29"),
        (cell("<x:v>1</x:v>", style=8), "1900-01-01"),
        (cell("<x:v>0.6041666666666666</x:v>", style=3), "14:30"),
        (cell("<x:v>1.2534722222222223</x:v>", style=4), "30:05"),
        (cell("<x:v>3.5</x:v>", style=5), "3.5"),
        (cell("<x:v>3.5</x:v>", style=6), "3.5"),
        (cell("<x:v>45351.503576388887</x:v>", style=7), "2024-02-29 12:05:09"),
        (cell("<x:v>1E99</x:v>", style=8), "1e+99"),
        (cell("<x:v>5</x:v>", style=99), "5"),
    ],
)
def test_values(parse, value, expected):
    strings = "<x:si><x:t>shared</x:t></x:si><x:si><x:r><x:t>rich </x:t></x:r><x:r><x:t>text</x:t></x:r>"
    strings += "<x:rPh><x:t>aid</x:t></x:rPh></x:si>"
    assert parse(row(value), strings=strings).text.removeprefix("Sheet1\n\n") == expected


def test_dates_from_1904(parse):
    assert parse(row(cell("<x:v>43889</x:v>", style=1)), is_1904=True).text.endswith("2024-02-29")


def test_a_cell_merged_over_rows_stands_in_each(parse):
    rows = '<x:row r="2"><x:c r="B2"><x:v>1931</x:v></x:c><x:c r="C2"><x:v>5</x:v></x:c></x:row>'
    rows += '<x:row r="3"><x:c r="C3"><x:v>6</x:v></x:c></x:row><x:row r="4"><x:c r="C4"><x:v>7</x:v></x:c></x:row>'
    merged = '<x:mergeCells><x:mergeCell ref="B2:B3"/><x:mergeCell ref="D2:F2"/></x:mergeCells>'
    assert parse(rows + merged).text == "Sheet1\n\n1931 | 5\n1931 | 6\n7"


def test_formulas_that_were_never_computed_are_counted(parse):
    formula = cell("<x:f>A1*2</x:f><x:v></x:v>")
    parsed = parse(row("Sand", formula, formula, cell("<x:f>B1</x:f><x:v></x:v>", "str")))
    assert parsed.missing == ["2 formulas without saved values: save the file in a spreadsheet program"]


def test_text_boxes(parse):
    box = "<xdr:sp><xdr:txBody><a:p><a:r><a:t>Pay here.</a:t></a:r></a:p></xdr:txBody></xdr:sp>"
    assert parse(row("Snow"), drawing_d1=xml("xdr:wsDr", box)).text == "Sheet1\n\nSnow\n\nPay here."


def test_time_does_not_depend_on_empty_cells(parse):
    far = '<x:row r="1"><x:c r="A1"><x:v>1</x:v></x:c></x:row>'
    far += '<x:row r="1048576"><x:c r="XFD1048576"><x:v>2</x:v></x:c></x:row>'
    empty = '<x:row r="2"><x:c r="A2" s="1"/></x:row>' * 10_000
    merged = '<x:mergeCells><x:mergeCell ref="A1:A1048576"/></x:mergeCells>'
    started = time.process_time()
    assert parse(far.replace('<x:row r="1048576">', empty + '<x:row r="1048576">') + merged).text == (
        "Sheet1\n\n1\n\n1 | 2"
    )
    assert time.process_time() - started < 5


def reason(path) -> str:
    parser = Parser(max_memory_bytes=600 << 20)
    (entry,) = parser.read_file(path, "a", "xlsx")
    parser.close()
    assert isinstance(entry, Skipped)
    return entry.reason


@pytest.mark.parametrize(
    ("streams", "message"),
    [(["Workbook"], "rename it to .xls"), (["EncryptedPackage"], "is encrypted"), (["x"], "is not an Excel workbook")],
)
def test_other_files_under_the_suffix_say_what_they_are(tmp_path, streams, message):
    path = tmp_path / "a.xlsx"
    path.write_bytes(old_office_file(*streams))
    assert message in reason(path)


def test_damaged_parts(parse):
    parsed = parse(row("Snow"), "</x:sheetData>", row("Ice"))
    assert parsed.text == "Sheet1\n\nSnow\n\nSheet3\n\nIce"
    assert parsed.missing[0].startswith("sheet Sheet2 is damaged")


@pytest.mark.slow
def test_bombs_cost_the_file(tmp_path):
    def workbook(sheet: str, strings: str = "") -> dict[str, str]:
        return {
            "xl/workbook.xml": xml("x:workbook", '<x:sheets><x:sheet name="a" r:id="r1"/></x:sheets>'),
            "xl/_rels/workbook.xml.rels": relations({"worksheet:r1": "1.xml", "sharedStrings:r2": "2.xml"}),
            "xl/1.xml": sheet,
            "xl/2.xml": strings or xml("x:sst", ""),
        }

    entities = '<!DOCTYPE d [<!ENTITY a "snow">]>' + worksheet(row("&a;")).partition("?>")[2]
    assert "entities" in reason(write_parts(tmp_path / "a.xlsx", workbook(entities)))
    assert "200 MB" in reason(write_parts(tmp_path / "b.xlsx", workbook(" " * (201 << 20))))
    strings = xml("x:sst", f"<x:si><x:t>{'snow ' * 200_000}</x:t></x:si>")
    often = worksheet(row(*['<x:c t="s"><x:v>0</x:v></x:c>'] * 3000))
    assert "memory" in reason(write_parts(tmp_path / "c.xlsx", workbook(often, strings)))
    unclosed = "<x:mergeCell " * (8 << 20)
    assert "damaged" in reason(write_parts(tmp_path / "d.xlsx", workbook(unclosed)))
