"""OpenDocument files are read whole: texts, spreadsheets and presentations, zipped or flat."""

from __future__ import annotations

import time

import pytest

from ragx.corpus import Skipped
from ragx.corpus.extract import odf
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import old_office_file, write_parts

PREFIXES = "office style text table presentation meta chart"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{prefix}:1.0"' for prefix in PREFIXES.split()
)
NAMESPACES += (
    ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def root(tag: str, content: str) -> str:
    return f'<?xml version="1.0"?><office:{tag} {NAMESPACES}>{content}</office:{tag}>'


@pytest.fixture
def parse(tmp_path):
    """Parse a document of a kind with this body. `styles`: automatic ones; `parts`: further parts by their folder."""

    def parse(
        body: str, kind: str = "text", styles: str = "", masters: str = "", meta: str = "", **parts: str
    ) -> Parsed:
        automatic = f"<office:automatic-styles>{styles}</office:automatic-styles>"
        body = f"{automatic}<office:body><office:{kind}>{body}</office:{kind}></office:body>"
        members = {
            "content.xml": root("document-content", body),
            "styles.xml": root("document-styles", f"<office:master-styles>{masters}</office:master-styles>"),
            "meta.xml": root("document-meta", f"<office:meta>{meta}</office:meta>"),
        }
        members |= {f"{folder}/content.xml": part for folder, part in parts.items()}
        zipped = odf.parse(write_parts(tmp_path / "a.odt", members))
        flat = tmp_path / "a.fodt"
        flat.write_text(root("document", f"<office:meta>{meta}</office:meta>{body}"))
        if not masters and not parts:
            assert odf.parse(flat) == zipped
        return zipped

    return parse


def paragraph(text: str) -> str:
    return f"<text:p>{text}</text:p>"


def test_title_author_and_headings(parse):
    meta = "<dc:title>The mill</dc:title><meta:initial-creator>Olm</meta:initial-creator><dc:creator>Sand</dc:creator>"
    parsed = parse(
        '<text:h text:outline-level="1">Owners</text:h><text:section><text:h text:outline-level="2">Sand</text:h>'
        "</text:section><text:list><text:list-item><text:h>Rents</text:h></text:list-item></text:list>",
        meta=f"{meta}<meta:keyword>flour</meta:keyword><meta:keyword>rent</meta:keyword>",
    )
    assert (parsed.title, parsed.metadata) == ("The mill", {"author": "Olm", "keywords": "flour, rent"})
    assert [(heading.level, heading.text) for heading in parsed.headings] == [(1, "Owners"), (2, "Sand"), (1, "Rents")]
    style = '<style:style style:name="P1" style:parent-style-name="Title"/>'
    assert (
        parse('<text:p text:style-name="P1">The <text:span>mill</text:span></text:p>', styles=style).title == "The mill"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a<text:line-break/>b", "a\nb"),
        ("a<text:tab/>b", "a\tb"),
        ('a<text:s text:c="3"/>b<text:s/>c', "a   b c"),
        ("a \n\t b", "a b"),
        ("a<text:soft-page-break/>b", "ab"),
        ("<text:span>a<text:a>b</text:a></text:span>c", "abc"),
        ("a<text:bookmark/>b<text:title>c</text:title>", "abc"),
        ("a<text:change-start/>b<text:change-end/>c", "abc"),
        ("a<office:annotation><text:p>comment</text:p></office:annotation>b", "ab"),
        ("<text:ruby><text:ruby-base>a</text:ruby-base><text:ruby-text>b</text:ruby-text></text:ruby>c", "ac"),
        ("<text:page-number>3</text:page-number>", "3"),
    ],
)
def test_text_inside_a_paragraph(parse, content, expected):
    deleted = "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion>"
    deleted += "</text:changed-region></text:tracked-changes>"
    assert parse(deleted + paragraph(content)).text == expected


def test_notes_and_text_boxes_follow_their_paragraph(parse):
    note = "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Repaid in 1931.</text:p>"
    note += "</text:note-body></text:note>"
    box = f"<draw:frame><draw:text-box>{paragraph('Under the tree.')}</draw:text-box><svg:desc>A plan</svg:desc>"
    box += "</draw:frame>"
    shape = "<draw:g><draw:custom-shape><text:p>In a shape</text:p></draw:custom-shape></draw:g>"
    parsed = parse(paragraph(f"Bought{note} by {box}the parish.{shape}") + box)
    assert parsed.text == (
        "Bought by the parish.\n\nNote: Repaid in 1931.\n\nUnder the tree.\n\nA plan\n\nIn a shape\n\n"
        "Under the tree.\n\nA plan"
    )


def test_lists_have_their_bullets_and_numbers(parse):
    def items(*contents: str, attributes: str = "") -> str:
        found = "".join(f"<text:list-item>{content}</text:list-item>" for content in contents)
        return f"<text:list {attributes}>{found}</text:list>"

    numbers = '<text:list-style style:name="N"><text:list-level-style-number text:level="1" style:num-format="1" '
    numbers += 'style:num-suffix="."/><text:list-level-style-number text:level="2" style:num-format="a" '
    numbers += 'style:num-suffix=")" text:start-value="3"/></text:list-style>'
    numbered = items(paragraph("a") + items(paragraph("b")), paragraph("c"), attributes='text:style-name="N"')
    more = items(paragraph("d") + paragraph("more"), attributes='text:style-name="N" text:continue-numbering="true"')
    bullets = items(paragraph("e") + items(paragraph("f")), "<text:list-header/>")
    assert parse(numbered + paragraph("Text.") + more + bullets, styles=numbers).text == (
        "1. a\n  c) b\n2. c\n\nText.\n\n3. d\n  more\n\n- e\n  - f"
    )


def table(*rows: str, name: str = "") -> str:
    content = "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
    return f'<table:table table:name="{name}">{content}</table:table>'


def cells(*contents: str, attributes: str = "") -> str:
    return "".join(f"<table:table-cell {attributes}>{paragraph(content)}</table:table-cell>" for content in contents)


COVERED = "<table:covered-table-cell/>"


def test_tables_are_a_row_a_line(parse):
    wide = cells("wide", attributes='table:number-columns-spanned="2"') + COVERED + cells("c")
    tall = cells("1931", attributes='table:number-rows-spanned="2"') + cells("a", "b")
    inner = f"<table:table-cell>{paragraph('x')}{table(cells('y', 'z'))}</table:table-cell>"
    rows = [wide, tall, COVERED + cells("d", "e"), COVERED + cells("f", "g"), cells("h") + inner]
    assert parse(table(*rows)).text == "wide | c\n1931 | a | b\n1931 | d | e\nf | g\nh | x\n\ny | z"
    header = f"<table:table><table:table-header-rows><table:table-row>{cells('a', 'b')}</table:table-row>"
    header += f"</table:table-header-rows><table:table-row>{cells('c', 'd')}</table:table-row></table:table>"
    assert parse(header).text == "a | b\nc | d"


def test_equations_charts_and_objects(parse):
    def framed(name: str) -> str:
        return f'<draw:frame><draw:object xlink:href="./{name}"/><draw:image/></draw:frame>'

    math = "<math xmlns='http://www.w3.org/1998/Math/MathML'><semantics><mi>T</mi>{}</semantics></math>"
    source = "<annotation encoding='StarMath 5.0'>T = 42 over 2</annotation>"
    title = f"<chart:title>{paragraph('Rents')}</chart:title>"
    chart = f"<office:body><office:chart>{title}{table(cells('Mill', '900'))}</office:chart></office:body>"
    parsed = parse(
        paragraph(f"So {framed('One')} or {framed('Two')}.") + paragraph(framed("Three")) + paragraph(framed("Gone")),
        One=math.format(source),
        Two=math.format("<mo>=</mo><mn>21</mn>"),
        Three=root("document-content", chart),
    )
    assert parsed.text == "So T = 42 over 2 or T=21.\n\nRents\n\nMill | 900"
    assert parsed.missing == ["1 embedded object could not be read"]


def test_headers_and_footers_come_once_at_the_end(parse):
    header = f"<style:header>{paragraph('KV-2231')}</style:header><style:footer>{paragraph('- 1 -')}</style:footer>"
    masters = f"<style:master-page>{header}</style:master-page>" * 2
    assert parse(paragraph("Rent."), masters=masters).text == "Rent.\n\nKV-2231"


def test_spreadsheets(parse):
    date = '<table:table-cell office:value-type="date" office:date-value="1931-03-01"/>'
    rents = table(cells("Name", "From", "Rent"), cells("Sand") + date + cells("900 €"), name="Rents")
    far = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell '
    far += 'table:number-columns-repeated="16384"/></table:table-row>'
    started = time.process_time()
    parsed = parse(
        rents.replace("</table:table>", far * 100 + "</table:table>") + table("", name="Empty"), "spreadsheet"
    )
    assert parsed.text == "Rents\n\nName | From | Rent\nName: Sand; From: 1931-03-01; Rent: 900 €"
    assert [heading.text for heading in parsed.headings] == ["Rents"]
    assert time.process_time() - started < 5


def test_presentations(parse):
    def frame(kind: str, *texts: str, more: str = "") -> str:
        content = "".join(map(paragraph, texts))
        return f'<draw:frame presentation:class="{kind}" {more}><draw:text-box>{content}</draw:text-box></draw:frame>'

    notes = f"<presentation:notes><draw:page-thumbnail/>{frame('notes', 'Say it slowly.')}</presentation:notes>"
    pages = [
        frame("title", "Snow")
        + frame("outline", "White.")
        + frame("outline", "Click", more='presentation:placeholder="true"'),
        frame("title", "Ice") + f"<draw:frame>{table(cells('a', 'b'))}</draw:frame>" + notes,
    ]
    parsed = parse("".join(f"<draw:page>{page}</draw:page>" for page in pages), "presentation")
    assert parsed.text == "Snow\n\nWhite.\n\fIce\n\na | b\n\nNotes: Say it slowly."
    assert parsed.paged
    assert parsed.title == "Snow"
    assert [heading.text for heading in parsed.headings] == ["Snow", "Ice"]


def reason(path) -> str:
    parser = Parser()
    (entry,) = parser.read_file(path, "a", "odf")
    parser.close()
    assert isinstance(entry, Skipped)
    return entry.reason


def test_files_that_cannot_be_read_say_why(tmp_path):
    manifest = {"META-INF/manifest.xml": "<manifest><encryption-data/></manifest>", "content.xml": "x"}
    assert "is encrypted" in reason(write_parts(tmp_path / "a.odt", manifest))
    assert "is not an OpenDocument file" in reason(write_parts(tmp_path / "b.odt", {"readme.txt": "hello"}))
    assert "damaged" in reason(write_parts(tmp_path / "c.odt", {"content.xml": "<office"}))
    assert "200 MB" in reason(write_parts(tmp_path / "d.odt", {"content.xml": b" " * (201 << 20)}))
    (tmp_path / "e.odt").write_bytes(old_office_file("WordDocument"))
    assert "save it as .docx" in reason(tmp_path / "e.odt")
    (tmp_path / "f.fodt").write_text('<!DOCTYPE d [<!ENTITY a "snow">]><office>&a;</office>')
    assert "entities" in reason(tmp_path / "f.fodt")
