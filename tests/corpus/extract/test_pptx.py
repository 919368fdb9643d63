"""A presentation is read whole, a page a slide."""

from __future__ import annotations

import pytest

from ragx.corpus import Skipped
from ragx.corpus.extract import pptx
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import core_properties, old_office_file, relations, write_parts, xml


def paragraph(text: str) -> str:
    return f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>"


def shape(*paragraphs: str, type: str | None = None) -> str:
    """A shape; texts that are no elements become paragraphs. `type`: of a placeholder, "" for one without a type."""
    kind = {None: "", "": "<p:ph idx='1'/>"}.get(type, f"<p:ph type='{type}'/>")
    content = "".join(text if text.startswith("<") else paragraph(text) for text in paragraphs)
    return f"<p:sp><p:nvSpPr><p:nvPr>{kind}</p:nvPr></p:nvSpPr><p:txBody>{content}</p:txBody></p:sp>"


@pytest.fixture
def parse(tmp_path):
    """Parse a presentation of slides, each the XML of its shapes. `parts`: related to the slides, as "type_id"."""

    def parse(*slides: str, title: str = "", **parts: str) -> Parsed:
        names = {f"slide:s{number}": f"slides/{number}.xml" for number in range(len(slides))}
        ids = "".join(f'<p:sldId id="9" r:id="s{number}"/>' for number in reversed(range(len(slides))))
        targets = relations({key.replace("_", ":"): f"/ppt/{key}.xml" for key in parts})
        members = {
            "_rels/.rels": relations({"officeDocument": "ppt/presentation.xml", "core-properties": "core.xml"}),
            "core.xml": core_properties(title, "Olm"),
            "ppt/presentation.xml": xml("p:presentation", f"<p:sldIdLst>{ids}</p:sldIdLst>"),
            "ppt/_rels/presentation.xml.rels": relations(names),
        }
        for number, slide in enumerate(reversed(slides)):  # the order of the names is not that of the slides
            tree = xml("p:sld", f"<p:cSld><p:spTree>{slide}</p:spTree></p:cSld>")
            members |= {f"ppt/slides/{number}.xml": tree, f"ppt/slides/_rels/{number}.xml.rels": targets}
        members |= {f"ppt/{key}.xml": part for key, part in parts.items()}
        return pptx.parse(write_parts(tmp_path / "a.pptx", members))

    return parse


def test_slides_are_pages_with_their_titles_as_headings(parse):
    parsed = parse(shape("Snow", type="ctrTitle") + shape("White."), "", shape("Ice", type="title"), title="Slide 1")
    assert parsed.text == "Snow\n\nWhite.\n\f\fIce"
    assert parsed.paged
    assert [(heading.start, heading.text) for heading in parsed.headings] == [(0, "Snow"), (15, "Ice")]
    assert (parsed.title, parsed.metadata) == ("Slide 1", {"author": "Olm"})
    assert parse(shape("Snow", type="title"), title="PowerPoint Presentation").title == "Snow"


def test_lists_breaks_fields_and_equations(parse):
    level = '<a:p><a:pPr lvl="1"/><a:r><a:t>deep</a:t></a:r><a:br/><a:r><a:t>line</a:t></a:r></a:p>'
    plain = "<a:p><a:pPr><a:buNone/></a:pPr><a:r><a:t>plain</a:t></a:r></a:p>"
    assert parse(shape("one", level, plain, type="body")).text == "- one\n  - deep\nline\nplain"
    assert parse(shape("one", type="")).text == "- one"
    bullet = '<a:p><a:pPr><a:buChar char="•"/></a:pPr><a:r><a:t>own</a:t></a:r></a:p>'
    assert parse(shape("one", bullet)).text == "one\n- own"
    date = '<a:p><a:fld type="datetime1"><a:t>1 March</a:t></a:fld><a:fld type="slidenum"><a:t>7</a:t></a:fld></a:p>'
    assert parse(shape(date)).text == "1 March"
    equation = "<mc:AlternateContent><mc:Choice><a:m><m:oMath><m:r><m:t>T=42</m:t></m:r></m:oMath></a:m></mc:Choice>"
    equation += "<mc:Fallback><a:r><a:t>picture</a:t></a:r></mc:Fallback></mc:AlternateContent>"
    assert parse(shape(f"<a:p><a:r><a:t>So </a:t></a:r>{equation}</a:p>")).text == "So T=42"


def test_shapes_in_groups_and_alternatives_come_once(parse):
    choice = f"<mc:AlternateContent><mc:Choice>{shape('new')}</mc:Choice><mc:Fallback>{shape('old')}</mc:Fallback>"
    choice += "</mc:AlternateContent>"
    group = f"<p:grpSp><p:grpSpPr/>{shape('a')}<p:grpSp>{shape('b')}</p:grpSp></p:grpSp>"
    picture = "<p:pic><p:nvPicPr><p:cNvPr descr='A mill in snow'/></p:nvPicPr></p:pic>"
    assert parse(group + choice + picture).text == "a\n\nb\n\nnew\n\nA mill in snow"


def test_footers_come_once_and_slide_numbers_never(parse):
    slide = shape("Text") + shape("Olm & Sons".replace("&", "&amp;"), type="ftr") + shape("3", type="sldNum")
    assert parse(slide, slide).text == "Text\n\nOlm & Sons\n\fText"


def frame(content: str) -> str:
    return f"<p:graphicFrame><a:graphic><a:graphicData>{content}</a:graphicData></a:graphic></p:graphicFrame>"


def test_tables_are_a_row_a_line(parse):
    def row(*cells: str) -> str:
        return f"<a:tr>{''.join(cells)}</a:tr>"

    def cell(*texts: str, merged: str = "") -> str:
        return f"<a:tc {merged}><a:txBody>{''.join(map(paragraph, texts))}</a:txBody></a:tc>"

    rows = row(cell("Year", merged='gridSpan="2"'), cell("", merged='hMerge="1"'), cell("Rent"))
    rows += row(cell("1931", merged='rowSpan="2"'), cell("Sand"), cell("900", "francs"))
    rows += row(cell("", merged='vMerge="1"'), cell("Olm"), cell("800"))
    assert parse(frame(f"<a:tbl>{rows}</a:tbl>")).text == "Year | Rent\n1931 | Sand | 900 francs\n1931 | Olm | 800"


def test_charts_diagrams_and_notes(parse):
    label = "<c:dLbls><c:dLbl><c:tx><c:rich><a:p><a:r><a:t>peak</a:t></a:r></a:p></c:rich></c:tx></c:dLbl></c:dLbls>"
    series = f"<c:ser><c:tx><c:v>Mill</c:v></c:tx>{label}<c:val><c:pt idx='0'><c:v>900</c:v></c:pt></c:val></c:ser>"
    notes = shape("7", type="sldNum") + shape("Say it", "slowly.", type="body")
    parsed = parse(
        frame('<c:chart r:id="r1"/>') + frame('<dgm:relIds r:dm="r2"/>'),
        chart_r1=xml("c:chartSpace", series),
        diagramData_r2=xml("dgm:dataModel", f"<dgm:pt><dgm:t>{paragraph('Sow')}</dgm:t></dgm:pt>"),
        notesSlide_r3=xml("p:notes", f"<p:cSld><p:spTree>{notes}</p:spTree></p:cSld>"),
    )
    assert parsed.text == "Mill: 900\npeak\n\nSow\n\nNotes: Say it\nslowly."


def test_slides_without_text_and_embedded_objects_are_named(parse):
    picture, object = "<p:pic/>", frame("<p:oleObj progId='Excel.Sheet.12'/>" * 2)
    assert parse(shape("Snow"), picture, picture, "", picture + object).missing == [
        "slides 2-3, 5: only pictures, no text",
        "1 embedded object could not be read",
    ]


def reason(path) -> str:
    parser = Parser()
    (entry,) = parser.read_file(path, "a", "pptx")
    parser.close()
    assert isinstance(entry, Skipped)
    return entry.reason


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (["PowerPoint Document"], "save it as .pptx"),
        (["EncryptedPackage"], "is encrypted"),
        (["x"], "is not a PowerPoint"),
    ],
)
def test_other_files_under_the_suffix_say_what_they_are(tmp_path, streams, message):
    path = tmp_path / "a.pptx"
    path.write_bytes(old_office_file(*streams))
    assert message in reason(path)


def test_a_bomb_costs_the_file_and_a_damaged_slide_itself(tmp_path, parse):
    parsed = parse(shape("Snow"), "<p:sp>", shape("Ice"))
    assert parsed.text == "Snow\n\f\fIce"
    assert parsed.missing[0].startswith("slide 2 could not be read; the first is damaged")
    bomb = write_parts(tmp_path / "b.pptx", {"ppt/presentation.xml": b" " * (201 << 20)})
    assert "unpacks to more than 200 MB" in reason(bomb)
