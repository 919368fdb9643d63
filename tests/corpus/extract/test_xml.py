"""XML files that are not dumps of MediaWiki."""

from __future__ import annotations

import pytest

from tests.corpus.extract.conftest import headings

ARTICLE = """<!DOCTYPE article PUBLIC "-//NLM//DTD JATS" "JATS.dtd"><article xmlns:x="urn:x"><front><article-title>On
  <italic>snow</italic></article-title></front><body><sec><title>Albedo</title><p>Fresh&nbsp;snow <b>reflects</b>
  light.<!-- not this --></p><p>It &lt;melts&gt; in <x:m>May</x:m>.</p><sec><title>Old</title><p>Old <i>snow</i> is
  dark.</p></sec><table><tr><td>May</td><td>12</td></tr><tr><td>June</td><td>3</td></tr></table></sec></body></article>"""


def test_text_with_markup(parse):
    document, missing = parse("a.xml", ARTICLE)
    assert document.title == "On snow"
    assert headings(document) == [(2, "On snow"), (3, "Albedo"), (4, "Old")]
    assert document.text == (
        "On snow\n\nAlbedo\n\nFresh snow reflects light.\n\nIt <melts> in May.\n\nOld\n\nOld snow is dark.\n"
        "May | 12\nJune | 3"
    )
    assert not missing


def test_values(parse):
    document, missing = parse(
        "a.rss",
        '<rss version="2.0"><channel><title>News</title><item><title>Hut</title><description>&lt;p>The key is &lt;b>red'
        '&lt;/b>.&lt;/p></description></item><enclosure url="a.mp3"/></channel></rss>',
    )
    assert (document.title, missing) == ("News", [])
    assert document.text == (
        "rss (version=2.0)\n\nchannel\ntitle: News\n\nitem\ntitle: Hut\ndescription: The key is red.\n"
        "enclosure (url=a.mp3)"
    )


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "iso-8859-1"])
def test_the_stated_encoding(parse, codec):
    assert parse("a.xml", f'<?xml version="1.0" encoding="{codec}"?><a>café</a>'.encode(codec))[0].text == "a: café"


def test_what_is_left_out_is_named(parse):
    document, missing = parse("a.xml", '<!DOCTYPE a [<!ENTITY who "Ada">]><a>Ask &who; now</a>')
    assert document.text == "a: Ask now"
    assert "&who;" in missing[0]
    document, missing = parse("a.xml", "<a><b>the key</b><b>cut o")
    assert "the key" in document.text
    assert "not valid XML" in missing[0]


@pytest.mark.parametrize("content", ["", "no markup", b"\x89PNG\0\0"])
def test_a_file_that_is_no_xml_is_named(parse, content):
    document, missing = parse("a.xml", content)
    assert document is None
    assert missing


def test_hostile_entities_cost_nothing(parse, tmp_path):
    (tmp_path / "secret").write_text("secret")
    laughs = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    document, missing = parse(
        "a.xml",
        f'<!DOCTYPE a [<!ENTITY e0 "ha">{laughs}<!ENTITY f SYSTEM "file://{tmp_path}/secret">]><a>x&e11;&f;</a>',
    )
    assert document is None or len(document.text) < 100
    assert document is None or "secret" not in document.text
    assert missing


@pytest.mark.parametrize(
    "content", ["<a>" * 100_000, "<a>" + "&nbsp;x" * 300_000 + "</a>", "<a>" + "&foo;x" * 30_000 + "</a>"]
)
def test_deep_and_long_files_end_soon(parse, content):
    document, missing = parse("a.xml", content)
    assert document or missing
