"""MediaWiki dumps: the articles, and nothing that the XML itself asks for."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from ragx.corpus import Document, Skipped

NAMESPACES = (
    '<siteinfo><namespaces><namespace key="0"/><namespace key="6">Datei</namespace>'
    '<namespace key="14">Kategorie</namespace></namespaces></siteinfo>'
)


def page(title: str, *texts: str, ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    revisions = "".join(
        f"<revision><id>1</id><model>{model}</model><text>{escape(text)}</text></revision>" for text in texts
    )
    return f"<page><title>{escape(title)}</title><ns>{ns}</ns><id>7</id>{extra}{revisions}</page>"


def dump(*pages: str, head: str = "") -> str:
    start = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="de">'
    return f"{head}{start}{NAMESPACES}{''.join(pages)}</mediawiki>"


SNOW = page("Schnee & Eis", "'''Schnee''' [[Datei:x.jpg|mini|Bild]]reflektiert [[Licht]].[[Kategorie:Eis]]")
SNOW_TEXT = "Schnee reflektiert Licht."


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("dump.xml", str.encode),
        ("dump.xml", lambda text: text.encode("utf-16")),
        ("dump.xml.bz2", lambda text: bz2.compress(text.encode())),
        ("dump.xml.gz", lambda text: gzip.compress(text.encode())),
        ("articles1.xml-p10p30-shortened.bz2", lambda text: bz2.compress(text.encode())),
    ],
)
def test_a_dump_is_recognised_by_its_content(tmp_path, read, name, pack):
    (tmp_path / name).write_bytes(pack(dump(SNOW)))
    expected = Document("Schnee & Eis", "Schnee & Eis", SNOW_TEXT, str(tmp_path / name))
    assert read(tmp_path) == read(tmp_path / name) == ([expected], [])


def test_only_articles_are_read_in_their_last_revision(tmp_path, read):
    (tmp_path / "dump.xml").write_text(
        dump(
            page("Snow", "old", "new"),
            page("Talk:Snow", "chat", ns=1),
            page("Neige", "#REDIRECT [[Snow]]", extra='<redirect title="Snow"/>'),
            page("Schnee", "#redirect [[Snow]]"),
            page("Data", "{}", model="json"),
            page("No revision"),
            page("Nothing", "{{stub}}"),
        )
    )
    documents, skipped = read(tmp_path / "dump.xml")
    assert [(document.id, document.text) for document in documents] == [("Snow", "new"), ("Nothing", "")]
    assert skipped == []


def test_no_entity_is_resolved(tmp_path, read):
    secret = tmp_path / "secret.dat"
    secret.write_text("top secret")
    head = f'<!DOCTYPE mediawiki [<!ENTITY file SYSTEM "{secret.as_uri()}"><!ENTITY own "inner">]>'
    xml = dump(page("Snow", "[...]"), head=head).replace("[...]", "white &file; &own; &amp; cold")
    (tmp_path / "dump.xml").write_text(xml)
    documents, skipped = read(tmp_path / "dump.xml")
    assert [document.text for document in documents] == ["white &file; &own; & cold"]
    assert skipped == []


def test_an_entity_bomb_is_skipped(tmp_path, read):
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    head = f'<!DOCTYPE mediawiki [<!ENTITY a0 "snow">{entities}]>'
    xml = dump(page("Snow", "[...]"), head=head).replace("[...]", "white &a9; cold")
    (tmp_path / "dump.xml").write_text(xml)
    documents, (skipped,) = read(tmp_path / "dump.xml")
    assert documents == []
    assert "amplification" in skipped.reason


def test_articles_before_the_damage_are_read(tmp_path, read):
    whole = dump(SNOW, page("Eis", "kalt" * 1000)).encode()
    xml = tmp_path / "dump.xml"
    xml.write_bytes(whole[:-500])
    documents, skipped = read(xml)
    assert [document.id for document in documents] == ["Schnee & Eis"]
    assert [entry.source for entry in skipped] == [str(xml)]
    assert "after the page 'Schnee & Eis'" in skipped[0].reason

    packed = tmp_path / "dump.xml.bz2"
    packed.write_bytes(bz2.compress(whole)[:-20])
    documents, skipped = read(packed)
    assert [entry.source for entry in skipped] == [str(packed)]


@pytest.mark.slow
def test_a_page_whose_markup_takes_too_long_is_skipped(tmp_path, read):
    (tmp_path / "dump.xml").write_text(dump(SNOW, page("Bold", "<b>" * 40_000), page("Eis", "kalt")))
    documents, skipped = read(tmp_path / "dump.xml", limits={"max_seconds": 10})
    assert [document.id for document in documents] == ["Schnee & Eis", "Eis"]
    assert skipped == [Skipped(f"{tmp_path / 'dump.xml'}:Bold", "took more than 10 seconds to parse")]


def test_a_long_dump_streams(tmp_path, read):
    path: Path = tmp_path / "dump.xml"
    path.write_text(dump(*(page(f"Page {n}", f"text {n}") for n in range(1000))))
    documents, _ = read(path)
    assert [document.text for document in documents] == [f"text {n}" for n in range(1000)]
