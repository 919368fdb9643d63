"""Other, damaged and hostile files under the suffixes of Word cost themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.corpus import Skipped
from ragx.corpus.extract import docx
from ragx.corpus.extract.parsed import UnreadableError
from ragx.corpus.extract.parser import Parser
from tests.helpers.office import old_office_file, relations, write_parts, xml
from tests.helpers.word import paragraph


def reason(parser: Parser, path: Path) -> str:
    (entry,) = parser.read_file(path, "a", "docx")
    assert isinstance(entry, Skipped), entry
    assert "\n" not in entry.reason
    return entry.reason


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
