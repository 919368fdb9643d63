"""EPUB books: the chapters in reading order, with their titles."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragx.corpus.extract.epub import parse
from ragx.corpus.extract.parsed import UnreadableError
from tests.helpers.office import write_parts

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf"/></rootfiles></container>'
)


def page(body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head>'
        f"<title/></head><body>{body}</body></html>"
    )


def book(path: Path, items: str, spine: list[str], parts: dict[str, str | bytes], metadata: str = "") -> Path:
    references = "".join(f'<itemref idref="{id}"/>' for id in spine)
    package = (
        '<?xml version="1.0"?><!DOCTYPE package><package xmlns="http://www.idpf.org/2007/opf" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>{metadata}</metadata><manifest>{items}</manifest>'
        f"<spine>{references}</spine></package>"
    )
    return write_parts(path, {"META-INF/container.xml": CONTAINER, "OPS/book.opf": package} | parts)


def item(id: str, href: str, kind: str = "application/xhtml+xml", extra: str = "") -> str:
    return f'<item id="{id}" href="{href}" media-type="{kind}" {extra}/>'


def test_chapters_in_reading_order(tmp_path):
    path = book(
        tmp_path / "a.epub",
        item("two", "text/two%20.xhtml")
        + item("one", "one.xhtml")
        + item("nav", "nav.xhtml", extra='properties="nav"'),
        ["nav", "one", "two", "one", "gone"],
        {
            "OPS/one.xhtml": page("<h1>Snow</h1><p>It&nbsp;snows.</p>"),
            "OPS/text/two .xhtml": page("<nav>shown</nav><p>It melts.</p>"),
            "OPS/nav.xhtml": page('<nav><a href="one.xhtml">Snow</a><a href="text/two%20.xhtml#a">Ice</a></nav>'),
        },
        "<dc:title>Winter</dc:title><dc:creator>Ida</dc:creator><dc:creator>Bo</dc:creator><dc:language>en</dc:language>",
    )
    parsed = parse(path)
    assert parsed.title == "Winter"
    assert parsed.metadata == {"author": "Ida, Bo", "language": "en"}
    assert parsed.text == "Snow\n\nIt snows.\n\nIce\n\nshown\n\nIt melts."
    assert [(parsed.text[heading.start :][:3], heading.text) for heading in parsed.headings] == [
        ("Sno", "Snow"),
        ("Ice", "Ice"),
    ]
    assert parsed.missing == []


def test_titles_from_the_table_of_contents_of_epub_2(tmp_path):
    toc = (
        '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "x" "y"><ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>'
        '<navPoint><navLabel><text>Snow</text></navLabel><content src="one.html#x"/></navPoint></navMap></ncx>'
    )
    path = book(
        tmp_path / "a.epub",
        item("one", "one.html", "text/html") + item("toc", "toc.ncx", "application/x-dtbncx+xml"),
        ["one"],
        {"OPS/one.html": "<p>It snows.", "OPS/toc.ncx": toc},
    )
    assert parse(path).text == "Snow\n\nIt snows."


def test_a_missing_chapter_is_named(tmp_path):
    path = book(
        tmp_path / "a.epub", item("one", "one.html") + item("two", "two.html"), ["one", "two"], {"OPS/two.html": "x"}
    )
    assert parse(path).text == "x"
    assert parse(path).missing == ["chapter OPS/one.html is missing"]


@pytest.mark.parametrize(
    ("method", "is_read"), [("http://www.idpf.org/2008/embedding", True), ("http://ns.adobe.com/adept", False)]
)
def test_copy_protection_is_told_from_embedded_fonts(tmp_path, method, is_read):
    encryption = f'<encryption><EncryptedData><EncryptionMethod Algorithm="{method}"/></EncryptedData></encryption>'
    path = book(
        tmp_path / "a.epub",
        item("one", "one.html"),
        ["one"],
        {"OPS/one.html": "x", "META-INF/encryption.xml": encryption},
    )
    if is_read:
        assert parse(path).text == "x"
    else:
        with pytest.raises(UnreadableError, match="copy-protected"):
            parse(path)


def test_a_bomb_is_not_unpacked(tmp_path):
    path = book(tmp_path / "a.epub", item("one", "one.html"), ["one"], {"OPS/one.html": b"\0" * (201 << 20)})
    with pytest.raises(UnreadableError, match="200 MB"):
        parse(path)


def test_no_entity_is_resolved(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("top secret")
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE ncx [<!ENTITY a0 "snow"><!ENTITY f SYSTEM "{secret.as_uri()}">{entities}]>'
    toc = f'{bomb}<ncx><navPoint><navLabel><text>&f;&a3;</text></navLabel><content src="one.html"/></navPoint></ncx>'
    path = book(
        tmp_path / "a.epub",
        item("one", "one.html") + item("toc", "toc.ncx", "application/x-dtbncx+xml"),
        ["one"],
        {"OPS/one.html": "x", "OPS/toc.ncx": toc},
    )
    assert "secret" not in parse(path).text
    assert len(parse(path).text) < 100


@pytest.mark.parametrize(
    "parts",
    [
        {"readme.txt": "hello"},
        {"META-INF/container.xml": "<container>"},
        {"META-INF/container.xml": CONTAINER},
        {"META-INF/container.xml": CONTAINER, "OPS/book.opf": "no XML"},
        {"META-INF/container.xml": "<container/>"},
    ],
)
def test_a_damaged_book_says_so(tmp_path, parts):
    with pytest.raises(UnreadableError, match="damaged"):
        parse(write_parts(tmp_path / "a.epub", parts))


def test_a_file_that_is_not_a_zip_archive_is_skipped(tmp_path):
    path = tmp_path / "a.epub"
    path.write_text("hello")
    with pytest.raises(UnreadableError, match="is not an EPUB book"):
        parse(path)
