"""Word documents are read whole, with their tracked changes accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ragx.corpus import Document, Skipped
from ragx.corpus.extract import docx
from ragx.corpus.extract.parsed import Parsed, UnreadableError
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import core_properties, old_office_file, relations, write_parts, xml

SENTENCE = "Fresh snow reflects most of the sunlight that falls on it. "


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*texts: str, properties: str = "") -> str:
    """Texts that are no elements become runs."""
    content = "".join(text if text.startswith("<") else run(text) for text in texts)
    return f"<w:p><w:pPr>{properties}</w:pPr>{content}</w:p>"


@pytest.fixture
def parse(tmp_path):
    """Parse a document with this body, and further parts by their type and id ("header:r1")."""

    def parse(*body: str, title: str = "", **parts: str) -> Parsed:
        targets = {key.replace("_", ":"): f"{key}.xml" for key in parts}
        members = {
            "_rels/.rels": relations({"officeDocument": "word/document.xml", "core-properties": "core.xml"}),
            "core.xml": core_properties(title, "Berta Olm"),
            "word/document.xml": xml("w:document", f"<w:body>{''.join(body)}</w:body>"),
            "word/_rels/document.xml.rels": relations(targets),
        }
        members |= {f"word/{key}.xml": part for key, part in parts.items()}
        return docx.parse(write_parts(tmp_path / "a.docx", members))

    return parse


@pytest.fixture(scope="module")
def parser():
    parser = Parser()
    yield parser
    parser.close()


def reason(parser: Parser, path: Path) -> str:
    (entry,) = parser.read_file(path, "a", "docx")
    assert isinstance(entry, Skipped), entry
    assert "\n" not in entry.reason
    return entry.reason


def test_the_document_has_its_title_and_author(parser, parse, write_docx, tmp_path):
    path = write_docx(tmp_path / "snow.docx", "Snow & ice.", "Cafe\u0301.")
    assert parser.read_file(path, "a", "docx") == [Document("a", "snow", "Snow & ice.\n\nCafé.", str(path))]
    parsed = parse(paragraph("Snow."), title="On snow")
    assert (parsed.title, parsed.metadata) == ("On snow", {"author": "Berta Olm"})
    assert parse(paragraph("Snow."), title="Word Document").title == ""


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("<w:r><w:br/></w:r>", "\n"),
        ('<w:r><w:br w:type="page"/></w:r>', "\n"),
        ("<w:r><w:cr/></w:r>", "\n"),
        ("<w:r><w:tab/></w:r>", "\t"),
        ('<w:r><w:ptab w:alignment="right"/></w:r>', "\t"),
        ("<w:r><w:noBreakHyphen/></w:r>", "-"),
        ("<w:r><w:softHyphen/></w:r>", ""),
        ('<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>', "α"),
        ('<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r>', "☑"),
        ('<w:r><w:sym w:font="Arial" w:char="20AC"/></w:r>', "€"),
        ('<w:bookmarkStart w:id="1"/><w:proofErr/><w:bookmarkEnd w:id="1"/>', ""),
    ],
)
def test_breaks_and_special_characters(parse, between, expected):
    assert parse(paragraph("12", between, "Halm")).text == f"12{expected}Halm"


@pytest.mark.parametrize(
    "wrapping",
    [
        '<w:hyperlink r:id="x">{}</w:hyperlink>',
        '<w:bdo w:val="rtl">{}</w:bdo>',
        '<w:dir w:val="rtl">{}</w:dir>',
        '<w:customXml w:element="x"><w:customXmlPr/>{}</w:customXml>',
        '<w:smartTag w:element="x">{}</w:smartTag>',
        "<w:sdt><w:sdtPr><w:alias w:val='x'/></w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>",
        '<w:fldSimple w:instr=" MERGEFIELD Name ">{}</w:fldSimple>',
        '<w:ins w:id="1" w:author="a">{}</w:ins>',
        '<w:moveTo w:id="1" w:author="a">{}</w:moveTo>',
        "<mc:AlternateContent><mc:Choice Requires='x'>{}</mc:Choice><mc:Fallback><w:r><w:t>no</w:t></w:r></mc:Fallback>"
        "</mc:AlternateContent>",
        "<mc:AlternateContent><mc:Choice Requires='x'><w:r/></mc:Choice><mc:Fallback>{}</mc:Fallback>"
        "</mc:AlternateContent>",
        "<w:r><w:ruby><w:rt><w:r><w:t>reading</w:t></w:r></w:rt><w:rubyBase>{}</w:rubyBase></w:ruby></w:r>",
    ],
)
def test_text_in_any_wrapping_is_kept(parse, wrapping):
    assert parse(paragraph("Dear ", wrapping.format(run("Philippa")), ", come.")).text == "Dear Philippa, come."
    if "w:r>" not in wrapping and "<w:r/>" not in wrapping:  # also around whole paragraphs
        assert parse(wrapping.format(paragraph("Philippa"))).text == "Philippa"


def test_deleted_and_moved_text(parse):
    deleted = '<w:del w:id="1"><w:r><w:delText>old </w:delText></w:r></w:del>'
    moved = f'<w:moveFrom w:id="2">{run("gone ")}</w:moveFrom>'
    assert parse(paragraph("A ", deleted, moved, "new text.")).text == "A new text."
    end = '<w:rPr><w:del w:id="3"/></w:rPr>'
    assert parse(paragraph("One ", properties=end), paragraph("sentence.")).text == "One sentence."
    assert parse(paragraph("At the end.", properties=end)).text == "At the end."
    assert parse(paragraph("One.", properties=end), row_table([["a", "b"]])).text == "One.\n\na | b"


def field(kind: str, extra: str = "") -> str:
    return f'<w:r><w:fldChar w:fldCharType="{kind}">{extra}</w:fldChar></w:r>'


def test_complex_fields_show_their_results(parse):
    instruction = "<w:r><w:instrText> MERGEFIELD Name </w:instrText></w:r>"
    name = field("begin") + instruction + field("separate") + run("Quist") + field("end")
    assert parse(paragraph("Dear ", name, ".")).text == "Dear Quist."
    condition = field("begin") + "<w:r><w:instrText> IF </w:instrText></w:r>" + name + field("separate")
    assert parse(paragraph("Dear ", condition, run("Madam") + field("end"), ".")).text == "Dear Madam."
    contents = [paragraph(field("begin") + instruction + field("separate"), "Snow"), paragraph("Ice", field("end"))]
    assert parse(*contents).text == "Snow\n\nIce"


def test_a_field_that_never_ends_hides_no_text(parse):
    broken = paragraph("Snow", field("begin") + field("begin"), " ice"), paragraph("water")
    assert parse(*broken, paragraph(field("end"), "rain", field("separate"))).text == "Snow ice\n\nwater\n\nrain"


def test_values_of_form_fields(parse):
    choice = '<w:ffData><w:ddList><w:result w:val="1"/>'
    choice += '<w:listEntry w:val="rent"/><w:listEntry w:val="own"/></w:ddList></w:ffData>'
    box = "<w:ffData><w:checkBox><w:checked/></w:checkBox></w:ffData>"
    fields = field("begin", choice) + field("end") + run(" ") + field("begin", box) + field("end")
    assert parse(paragraph("I ", fields)).text == "I own ☒"


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


def row_table(rows: list[list[str]], wrap: str = "{}") -> str:
    """A table; cells that are no elements become paragraphs. `wrap`: around each row."""
    cells = [[cell if cell.startswith("<") else paragraph(cell) for cell in row] for row in rows]
    cells = [[cell if "<w:tc>" in cell[:6] else f"<w:tc>{cell}</w:tc>" for cell in row] for row in cells]
    lines = (wrap.format(f"<w:tr>{''.join(row)}</w:tr>") for row in cells)
    return f"<w:tbl>{''.join(lines)}</w:tbl>"


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


def style(id: str, name: str, base: str = "Standard", properties: str = "") -> str:
    named = f'<w:name w:val="{name}"/><w:basedOn w:val="{base}"/><w:pPr>{properties}</w:pPr>'
    return f'<w:style w:type="paragraph" w:styleId="{id}">{named}</w:style>'


STYLES = xml(
    "w:styles",
    '<w:style w:type="paragraph" w:default="1" w:styleId="Standard"><w:name w:val="Normal"/></w:style>'
    + style("berschrift1", "heading 1")
    + style("Kapitel", "Kapitel", "berschrift1")
    + style("Ab", "Abschnitt", properties='<w:outlineLvl w:val="1"/>')
    + style("Body", "Body", "Ab", '<w:outlineLvl w:val="9"/>')
    + style("Titel", "Title")
    + style("Punkt", "List Bullet", properties='<w:numPr><w:numId w:val="1"/></w:numPr>')
    + style("loop1", "Loop", "loop2")
    + style("loop2", "Loop", "loop1"),
)


def styled(style: str, text: str) -> str:
    return paragraph(text, properties=f'<w:pStyle w:val="{style}"/>')


def test_headings_by_style_or_outline_level(parse):
    parsed = parse(
        styled("Titel", "The mill"),
        styled("berschrift1", "Owners"),
        styled("Ab", "Sand"),
        styled("Body", "He bought it."),
        styled("Kapitel", "Tenants"),
        styled("loop1", "Olm."),
        styled("unknown", "Lind."),
        styles=STYLES,
    )
    assert parsed.title == "The mill"
    assert [(heading.level, heading.text) for heading in parsed.headings] == [
        (1, "Owners"),
        (2, "Sand"),
        (1, "Tenants"),
    ]
    for heading in parsed.headings:
        assert parsed.text[heading.start :].startswith(heading.text)


def item(id: int, level: int, text: str) -> str:
    return paragraph(text, properties=f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{id}"/></w:numPr>')


def test_lists_have_their_bullets_and_numbers(parse):
    levels = ["bullet", "", "decimal", "%1.", "lowerLetter", "%2)", "upperRoman", "%1-%2-%3"]
    kinds = list(zip(levels[::2], levels[1::2], strict=True))

    def abstract(id: int, kinds: list[tuple[str, str]]) -> str:
        found = (
            f'<w:lvl w:ilvl="{n}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/></w:lvl>'
            for n, (kind, text) in enumerate(kinds)
        )
        return f'<w:abstractNum w:abstractNumId="{id}">{"".join(found)}</w:abstractNum>'

    numbering = abstract(0, kinds[:1]) + abstract(1, kinds[1:])
    for id, link in ((1, 0), (2, 1), (3, 1)):
        numbering += f'<w:num w:numId="{id}"><w:abstractNumId w:val="{link}"/></w:num>'
    numbering += '<w:num w:numId="4"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0">'
    numbering += '<w:startOverride w:val="1"/></w:lvlOverride></w:num>'
    items = [
        item(1, 0, "a"), styled("Punkt", "b"), paragraph("Text."),
        item(2, 0, "c"), item(2, 1, "d"), item(2, 1, "e"), item(2, 2, "f"), item(3, 0, "g"), item(3, 1, "h"),
        paragraph("Text."), item(4, 0, "i"), item(0, 0, "j"), item(9, 0, "k"), item(2, 8, "l"),
    ]  # fmt: skip
    assert parse(*items, numbering=xml("w:numbering", numbering), styles=STYLES).text == (
        "- a\n- b\n\nText.\n\n1. c\n  a) d\n  b) e\n    1-b-I f\n2. g\n  a) h\n\nText.\n\n1. i\n\nj\n\n- k\n"
        "                - l"
    )


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("<f><num>{a+b}</num><den>{2}</den></f>", "(a+b)/2"),
        ("<sSup><e>{x}</e><sup>{2}</sup></sSup>", "x^2"),
        ("<sSubSup><e>{x}</e><sub>{i}</sub><sup>{n+1}</sup></sSubSup>", "x_i^(n+1)"),
        ("<rad><deg>{3}</deg><e>{x}</e></rad>", "3√x"),
        ("<nary><naryPr><chr val='∑'/></naryPr><sub>{i=1}</sub><sup>{n}</sup><e>{i}</e></nary>", "∑_(i=1)^n i"),
        ("<d><dPr><begChr val='['/><endChr val=']'/></dPr><e>{a}</e><e>{b}</e></d>", "[a|b]"),
        ("<m><mr><e>{1}</e><e>{0}</e></mr><mr><e>{0}</e><e>{1}</e></mr></m>", "[1, 0; 0, 1]"),
        ("<func><fName>{sin}</fName><e>{x}</e></func>", "sin x"),
        ("<acc><accPr><chr val='\u0303'/></accPr><e>{n}</e></acc>", "ñ"),
        ("<eqArr><e>{a}</e><e>{b}</e></eqArr>", "a; b"),
        ("<borderBox><e>{\U0001d438=\U0001d45a\U0001d450}</e></borderBox>", "E=mc"),
    ],
)
def test_equations_are_linear_text(parse, equation, text):
    equation = equation.replace("{", "<r><t>").replace("}", "</t></r>").replace("val=", "m:val=")
    equation = "<m:oMath>" + re.sub("<(/?)", r"<\1m:", equation) + "</m:oMath>"
    assert parse(paragraph("So ", equation, ".")).text == f"So {text}."
    assert parse(paragraph(f"<m:oMathPara>{equation}{equation}</m:oMathPara>")).text == f"{text}\n{text}"


def test_embedded_files_are_named(parse):
    embedded = '<w:r><w:object><o:OLEObject ProgID="Equation.3" r:id="x"/></w:object></w:r>'
    parsed = parse(paragraph("Snow.", embedded), paragraph(embedded), '<w:altChunk r:id="x"/>')
    assert parsed.text == "Snow."
    assert parsed.missing == ["2 embedded objects could not be read", "1 embedded file could not be read"]


def test_strict_documents_have_other_namespaces(tmp_path):
    parts = {
        "_rels/.rels": relations({"officeDocument": "word/document.xml"}),
        "word/document.xml": xml("w:document", f"<w:body>{paragraph('Snow.')}</w:body>"),
    }
    old, new = "http://schemas.openxmlformats.org", "http://purl.oclc.org/ooxml"
    parts = {name: part.replace(f"{old}/officeDocument/2006", f"{new}/officeDocument") for name, part in parts.items()}
    parts = {
        name: part.replace(f"{old}/wordprocessingml/2006", f"{new}/wordprocessingml") for name, part in parts.items()
    }
    assert docx.parse(write_parts(tmp_path / "a.docx", parts)).text == "Snow."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (old_office_file("Root Entry", "EncryptionInfo", "EncryptedPackage"), "is encrypted"),
        (old_office_file("Root Entry", "WordDocument"), "save it as .docx"),
        (b"just text", "is not a Word document"),
        (b"", "is not a Word document"),
    ],
)
def test_other_files_under_the_suffix_say_what_they_are(tmp_path, parser, data, message):
    path = tmp_path / "a.docx"
    path.write_bytes(data)
    assert message in reason(parser, path)


def test_a_zip_that_is_no_word_document_is_skipped(tmp_path, parser):
    path = write_parts(tmp_path / "a.docx", {"readme.txt": "hello"})
    assert "is not a Word document" in reason(parser, path)


def test_a_zip_bomb_is_not_unpacked(tmp_path, parser, write_docx):
    path = write_docx(tmp_path / "a.docx", extra={"word/document.xml": b"\0" * (201 << 20)})
    assert path.stat().st_size < 1 << 20
    assert "unpacks to more than 200 MB" in reason(parser, path)
    path = write_docx(tmp_path / "b.docx", "Snow.", extra={"word/media/film.mp4": b"\0" * (201 << 20)})
    assert parser.read_file(path, "b", "docx")[0].text == "Snow."


def test_xml_with_entities_is_refused(tmp_path, parser, write_docx):
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    bomb = f'<!DOCTYPE d [<!ENTITY a0 "aaaaaaaaaa">{entities}]><d>&a12;</d>'
    path = write_docx(tmp_path / "a.docx", extra={"word/document.xml": bomb.encode()})
    assert "amplification" in reason(parser, path)
    declared = '<!DOCTYPE d [<!ENTITY a "snow">]>' + xml("w:document", "").partition("?>")[2]
    path = write_docx(tmp_path / "b.docx", extra={"word/document.xml": declared.encode()})
    assert "entities" in reason(parser, path)


@pytest.mark.parametrize("tag", ["w:sdt", "w:tbl><w:tr><w:tc", "m:oMath><m:d><m:e"])
def test_deep_nesting_costs_the_file(tmp_path, parser, write_docx, tag):
    closing = "".join(f"</{part}>" for part in reversed(tag.split("><")))
    body = f"<w:body><w:p>{f'<{tag}>' * 20_000}<w:r><w:t>Snow.</w:t></w:r>{closing * 20_000}</w:p></w:body>"
    path = write_docx(tmp_path / "a.docx", extra={"word/document.xml": xml("w:document", body).encode()})
    assert reason(parser, path)


def test_parts_that_refer_to_each_other_or_to_nothing_end(parse):
    reference = '<w:r><w:footnoteReference w:id="2"/><w:endnoteReference w:id="7"/></w:r>'
    note = f'<w:footnote w:id="2">{paragraph("Loop.", reference)}</w:footnote>'
    body = paragraph("Snow.", reference)
    header = '<w:sectPr><w:headerReference r:id="gone"/></w:sectPr>'
    assert parse(body, header, footnotes=xml("w:footnotes", note)).text == "Snow.\n\nNote: Loop."
    assert parse().text == ""


def test_a_damaged_part_is_named(parse):
    with pytest.raises(UnreadableError, match="damaged"):
        parse(paragraph("Snow."), styles="<w:styles")
