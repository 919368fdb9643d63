"""Notes, headers, text boxes, drawings and tables of Word documents stand in their place."""

from __future__ import annotations

import pytest

from tests.helpers.office import xml
from tests.helpers.word import paragraph, row_table


def test_notes_follow_their_paragraph(parse):
    footnotes = '<w:footnote w:id="0" w:type="separator"><w:p><w:r><w:separator/></w:r></w:p></w:footnote>'
    footnotes += f'<w:footnote w:id="2">{paragraph("<w:r><w:footnoteRef/></w:r>", " Repaid in 1931.")}</w:footnote>'
    endnotes = f'<w:endnote w:id="2">{paragraph("Olm says.")}{paragraph("So does Sand.")}</w:endnote>'
    body = paragraph("Bought", '<w:r><w:footnoteReference w:id="2"/></w:r>', " by the parish.")
    parsed = parse(
        body,
        paragraph("Then sold.", '<w:r><w:endnoteReference w:id="2"/></w:r>'),
        footnotes=xml("w:footnotes", footnotes),
        endnotes=xml("w:endnotes", endnotes),
    )
    assert parsed.text == (
        "Bought by the parish.\n\nNote: Repaid in 1931.\n\nThen sold.\n\nNote: Olm says. So does Sand."
    )


def test_headers_and_footers_come_once_at_the_end(parse):
    kinds = [("header", "default"), ("header", "first"), ("footer", "default"), ("footer", "even")]
    section = "".join(f'<w:{kind}Reference w:type="{type}" r:id="r{n}"/>' for n, (kind, type) in enumerate(kinds))
    parsed = parse(
        paragraph("Rent.", properties=f"<w:sectPr>{section}</w:sectPr>"),
        f"<w:sectPr>{section}</w:sectPr>",
        header_r0=xml("w:hdr", paragraph("Contract KV-2231")),
        header_r1=xml("w:hdr", paragraph("Contract KV-2231")),
        footer_r2=xml("w:ftr", row_table([["Olm", "Sand"]])),
        footer_r3=xml("w:ftr", paragraph("- 1 -")),
    )
    assert parsed.text == "Rent.\n\nContract KV-2231\n\nOlm | Sand"


TEXT_BOX = f"<w:txbxContent>{paragraph('Under the chestnut tree.')}</w:txbxContent>"
DRAWING = "<w:drawing><wp:docPr id='1'/><a:graphic><a:graphicData>{}</a:graphicData></a:graphic></w:drawing>"


@pytest.mark.parametrize(
    "box",
    [
        DRAWING.format(f"<wps:wsp><wps:txbx>{TEXT_BOX}</wps:txbx></wps:wsp>"),
        f"<w:pict><v:shape><v:textbox>{TEXT_BOX}</v:textbox></v:shape></w:pict>",
        f"<mc:AlternateContent><mc:Choice Requires='wps'>{DRAWING.format(TEXT_BOX)}</mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{TEXT_BOX}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent>",
        '<w:pict><v:shape><v:textpath string="Under the chestnut tree."/></v:shape></w:pict>',
        DRAWING.format("<a:txBody><a:p><a:r><a:t>Under the chestnut tree.</a:t></a:r></a:p></a:txBody>"),
        DRAWING.replace("id='1'", "descr='Under the chestnut tree.'").format(""),
    ],
)
def test_text_boxes_follow_their_paragraph_once(parse, box):
    assert parse(paragraph("Meet ", f"<w:r>{box}</w:r>", "here.")).text == "Meet here.\n\nUnder the chestnut tree."
    in_cell = parse(row_table([[paragraph(f"<w:r>{box}</w:r>", "a"), "b"], ["c", "d"]])).text
    assert in_cell == "a | b\n\nUnder the chestnut tree.\nc | d"


def test_file_names_are_no_descriptions(parse):
    assert parse(paragraph("Snow", f"<w:r>{DRAWING.replace('id=', 'descr=').format('')}</w:r>")).text == "Snow\n\n1"
    for name in ("logo.png", "C:\\Users\\olm\\logo"):
        picture = DRAWING.replace("id='1'", f"descr='{name}'").format("")
        assert parse(paragraph("Snow", f"<w:r>{picture}</w:r>")).text == "Snow"


def test_charts_and_diagrams(parse):
    cache = "<c:pt idx='0'><c:v>{}</c:v></c:pt><c:pt idx='1'><c:v>{}</c:v></c:pt>"
    chart = "<c:title><a:p><a:r><a:t>Rents</a:t></a:r></a:p></c:title><c:ser><c:tx><c:v>Mill</c:v></c:tx>"
    chart += f"<c:cat>{cache.format('1930', '1931')}</c:cat><c:val>{cache.format(800, 900)}</c:val></c:ser>"
    diagram = (
        "<dgm:pt><dgm:t><a:p><a:r><a:t>Sow</a:t></a:r></a:p></dgm:t></dgm:pt><dgm:pt><dgm:t><a:p/></dgm:t></dgm:pt>"
    )
    graphics = DRAWING.format("<c:chart r:id='r1'/>") + DRAWING.format("<dgm:relIds r:dm='r2'/>")
    parsed = parse(
        paragraph(f"<w:r>{graphics}</w:r>"),
        chart_r1=xml("c:chartSpace", chart),
        diagramData_r2=xml("dgm:dataModel", diagram),
    )
    assert parsed.text == "Rents\nMill: 1930 800, 1931 900\n\nSow"


def test_tables_are_a_row_a_line(parse):
    two = paragraph("900") + paragraph("francs")
    assert parse(row_table([["Year", "Rent"], ["1931", two], ["1932", ""]])).text == (
        "Year | Rent\n1931 | 900 francs\n1932 | "
    ).rstrip(" ")
    wrapped = "<w:sdt><w:sdtContent>{}</w:sdtContent></w:sdt>"
    assert parse(row_table([["a", "b"], ["c", "d"]], wrapped)).text == "a | b\nc | d"
    deleted = row_table([["a", "b"]]).replace("<w:tr>", "<w:tr><w:trPr><w:del/></w:trPr>")
    assert parse(deleted, paragraph("Snow")).text == "Snow"


def test_merged_cells(parse):
    def cell(text: str, properties: str) -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"

    first, more = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    rows = [
        [cell("wide", '<w:gridSpan w:val="2"/>'), cell("1931", first)],
        ["a", "b", cell("", more)],
        [cell("x" * 200, first), "c", "d"],
        [cell("", more), "e", "f"],
    ]
    assert parse(row_table(rows)).text == f"wide | 1931\na | b | 1931\n{'x' * 200} | c | d\n | e | f"


def test_a_cell_alone_in_its_row_is_a_frame_around_its_text(parse):
    heading = paragraph("Snow", properties='<w:outlineLvl w:val="0"/>')
    parsed = parse(row_table([[heading + paragraph("White.") + row_table([["a", "b"]])]]))
    assert parsed.text == "Snow\n\nWhite.\n\na | b"
    assert [heading.text for heading in parsed.headings] == ["Snow"]


def test_nested_tables_follow_the_row(parse):
    assert parse(row_table([["a", paragraph("b") + row_table([["c", "d"]])], ["e", "f"]])).text == (
        "a | b\n\nc | d\ne | f"
    )


def test_embedded_files_are_named(parse):
    embedded = '<w:r><w:object><o:OLEObject ProgID="Equation.3" r:id="x"/></w:object></w:r>'
    parsed = parse(paragraph("Snow.", embedded), paragraph(embedded), '<w:altChunk r:id="x"/>')
    assert parsed.text == "Snow."
    assert parsed.missing == ["2 embedded objects could not be read", "1 embedded file could not be read"]
