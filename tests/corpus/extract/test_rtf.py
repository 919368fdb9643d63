"""RTF documents are read whole, in any of their encodings."""

from __future__ import annotations

import time

import pytest

from ragx.corpus import Skipped
from ragx.corpus.extract import doc, rtf
from ragx.corpus.extract.parsed import Parsed, UnreadableError
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import old_office_file

HEADER = (
    r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fnil\fcharset0 Arial;}{\f1\fnil\fcharset204 Arial Cyr;}"
    r"{\f2\fnil\fcharset128 MS Mincho;}{\f3\fnil\fcharset238 Arial CE{\*\falt x};}}"
    r"{\stylesheet{\ql Normal;}{\s1\fs32 heading 1;}{\s2\outlinelevel1 Abschnitt;}"
    r"{\*\cs10 heading 3;}{\*\cs11 Heading 2 Char;}}"
    r"{\info{\title The mill}{\author Olm}{\keywords flour}{\operator Sand}{\creatim\yr2024\mo1}}{\colortbl;\red0;}"
)


@pytest.fixture
def parse(tmp_path):
    def parse(body: str) -> Parsed:
        path = tmp_path / "a.rtf"
        path.write_bytes((HEADER + body + "}").encode("latin-1"))
        return rtf.parse(path)

    return parse


def test_title_author_and_headings(parse):
    parsed = parse(r"\pard\s1 Owners\par\pard\s2 Sand\par\pard Text.\par\pard\outlinelevel2 Rents\par\pard End.")
    assert (parsed.title, parsed.metadata) == ("The mill", {"author": "Olm", "keywords": "flour"})
    assert [(heading.level, heading.text) for heading in parsed.headings] == [(1, "Owners"), (2, "Sand"), (3, "Rents")]
    assert parsed.text == "Owners\n\nSand\n\nText.\n\nRents\n\nEnd."
    assert parsed.missing == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"caf\'e9", "café"),
        (r"{\f1 \'cc\'e8\'f0} {\f3\'b3\'f3d\'9f} caf\'e9", "Мир łódź café"),
        (r"{\f2 \'8e\'52\'8ER}", "山山"),
        (r"\u1052?\u1080?\u1088?", "Мир"),
        (r"\uc2\u28450\'8a\'bf\u23383\'8e\'9a.", "漢字."),
        (r"\uc0\u8364 5", "€5"),
        (r"\u-10179?\u-8704?", "😀"),
        (r"\u-10179?!", "�!"),
        (r"a\tab b\line c\~d\_e\-f", "a\tb\nc d-ef"),
        (r"\ldblquote a\rdblquote\emdash\lquote b\rquote \{\}\\", "“a”—‘b’{}\\"),
        ("a\r\nb", "ab"),
        ("a\\\nb", "a\n\nb"),
        (r"a{\b b}{\i\b0 c}", "abc"),
        (r"{\field{\*\fldinst HYPERLINK x}{\fldrslt link}}", "link"),
        (r"a{\pict\wmetafile8 01ff}{\*\shppict{\pict ff}}{\nonshppict x}{\*\unknown x{y}}b", "ab"),
        (r"a{\*\bkmkstart x}{\xe entry}b", "ab"),
        (r"a{\pict\bin5 {{{}}}b", "ab"),
        (r"{\upr{old}{\*\ud{new}}}", "new"),
        (r"a{\deleted b\par}c{\revised d}\deleted e\deleted0 f", "acdf"),
        (r"{\mmath{\*\moMath{\mf{\mfPr{\mtype bar}}{\mnum{\mr a}}{\mden{\mr b}}}}}", "a/b"),
    ],
)  # fmt: skip
def test_text(parse, body, text):
    assert parse(body).text == text


def test_notes_boxes_headers_and_objects(parse):
    parsed = parse(
        r"{\header\pard KV-2231\par}{\footer \chpgn\par}{\footerf KV-2231\par}"
        r"Bought{\super\chftn{\footnote\pard\chftn  Repaid.\par So.}} here.{\shp{\*\shpinst{\sp{\sn x}{\sv y}}"
        r"{\shptxt\pard Under the tree.\par}}{\shprslt{\*\do{\dptxbxtext old}}}}\par"
        r"{\object\objemb{\*\objclass Excel}{\*\objdata 00ff}{\result{\pict 00}}}Sold.{\*\annotation comment}"
    )
    assert parsed.text == "Bought here.\n\nNote: Repaid. So.\n\nUnder the tree.\n\nSold.\n\nKV-2231"
    assert parsed.missing == ["1 embedded object could not be read"]


def test_tables_are_a_row_a_line(parse):
    row = r"\trowd{}\cellx1{}\cellx2\pard\intbl {}\cell {}\cell\row"
    rows = [
        row.format("", "", "Year", r"Rent\par francs"),
        row.format(r"\clvmgf", "", "1931", "900"),
        row.format(r"\clvmrg", "", "", r"800{\footnote paid}"),
        row.format("", r"\clmrg", "wide", ""),
        row.format("", "", "a", r"b\nestcell c\nestcell{\*\nesttableprops\nestrow}{\nonesttables\par}d"),
    ]
    assert parse("Before\\par" + "".join(rows) + r"\pard After").text == (
        "Before\n\nYear | Rent francs\n1931 | 900\n1931 | 800\n\nNote: paid\n\nwide\na | d\n\nb | c\n\nAfter"
    )


def test_lists_have_their_bullets_and_numbers(parse):
    item = r"\pard{{\listtext {}\tab}}\ilvl{} {}\par"
    items = [item.format(r"\'95", 0, "a"), item.format(r"\bullet", 1, "b"), item.format("2.", 0, "c")]
    assert parse("".join(items) + r"\pard d").text == "- a\n  - b\n2. c\n\nd"


def test_a_file_that_is_cut_off_says_so(parse, tmp_path):
    path = tmp_path / "b.rtf"
    path.write_bytes((HEADER + r"Snow {\b is white. \par {\footnote Ice").encode())
    parsed = rtf.parse(path)
    assert parsed.text == "Snow is white.\n\nNote: Ice"
    assert parsed.missing == ["its end is missing"]
    assert parse("Snow}} trailing").text == "Snow"


@pytest.mark.parametrize(
    "body",
    [
        "{" * 300_000 + "snow",
        "{\\footnote " * 20_000,
        "\\'" * 300_000,
        "\\" * 300_000,
        r"\trowd" + r"\cellx1" * 300_000 + r"\row" * 100_000,
        r"\u-1" * 300_000,
        r"\pard\intbl \cell" * 200_000,
    ],
)
def test_time_is_linear(parse, body):
    started = time.process_time()
    parse(body)
    assert time.process_time() - started < 10


def test_other_formats_under_the_suffixes(tmp_path, write_docx):
    path = tmp_path / "a.doc"
    path.write_bytes((HEADER + "Snow.}").encode())
    assert doc.parse(path).text == "Snow."
    path.write_text("<html><body><p>Snow.</p></body></html>")
    assert doc.parse(path).text == "Snow."
    assert doc.parse(write_docx(path, "Snow.")).text == "Snow."
    for streams, message in (
        (["WordDocument"], "save it as .docx"),
        (["PowerPoint Document"], "save it as .pptx"),
        (["EncryptedPackage"], "is encrypted"),
    ):
        path.write_bytes(old_office_file(*streams))
        for parse in (doc.parse, rtf.parse):
            with pytest.raises(UnreadableError, match=message):
                parse(path)
    path.write_text("just text")
    with pytest.raises(UnreadableError, match="is not an RTF file"):
        rtf.parse(path)
    parser = Parser()
    (entry,) = parser.read_file(path, "a", "doc")
    parser.close()
    assert isinstance(entry, Skipped)
