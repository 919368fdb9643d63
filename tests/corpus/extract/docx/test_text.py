"""The text of Word documents is read whole, with their tracked changes accepted."""

from __future__ import annotations

import re

import pytest

from ragx.corpus import Document
from tests.helpers.office import xml
from tests.helpers.word import paragraph, row_table, run


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
