"""HTML pages: their main text whole, without what surrounds it, and what they say about themselves."""

from __future__ import annotations

import pytest

from ragx.corpus.document import Heading
from ragx.corpus.extract.html import decode, parse, parse_markup
from ragx.corpus.extract.parsed import UnreadableError

SENTENCE = "Fresh snow reflects most of the sunlight that falls on it, and dark soil absorbs most of that light."
BODY = "".join(f"<p>{number} {SENTENCE}</p>" for number in range(5))


def text(markup: str) -> str:
    return parse_markup(markup).text


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<p>only <b>a</b> fragment</p><p>of a page", "only a fragment\n\nof a page"),
        ("<div>one<div>two</div>three</div>", "one\ntwo\nthree"),
        (
            "<ul><li>one<li>two<ul><li>inner</ul><li><p>three<p>more</ul><p>end",
            "- one\n- two\n  - inner\n- three\n  more\n\nend",
        ),
        ("<ol><li>one<li>two</ol><ol start=7><li>seven</ol>", "1. one\n2. two\n\n7. seven"),
        ("<ol type=a><li>one</ol>", "- one"),
        (
            "<dl><dt>Coxswain<dd>The one who steers.<dt>Bow<dd>The first seat.</dl>",
            "Coxswain\nThe one who steers.\nBow\nThe first seat.",
        ),
        ("<pre>\nif x:\n    y()\n\nz()</pre>", "if x:\n    y()\n\nz()"),
        ("<pre><span>a</span>\n<div>b</div>c</pre>", "a\nb\nc"),
        ("a<br>b<br/>c &nbsp; &hellip; &bogus; <wbr>x", "a\nb\nc … &bogus; x"),
        ("so-\u00adcalled zero\u200bwidth", "so-called zerowidth"),
        ("10<sup>6</sup> m<sup>2</sup>, the 2<sup>nd</sup> H<sub>2</sub>O", "10⁶ m², the 2nd H2O"),
        ("said<sup><a href='#1'>1</a></sup> and<sup class=r><a href='#2'>[2]</a></sup>", "said [1] and [2]"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</rt></ruby>", "漢字(かんじ)"),
        ("<q>Yes</q>, <del>old</del> <code>f()</code>", "“Yes”, old f()"),
        ("<math alttext='x^2'><mi>x</mi></math> <img class=tex alt='y^2'> <img alt=photo>", "x^2 y^2"),
        ("<math><mi>x</mi><annotation encoding='application/x-tex'>\\hat x</annotation></math>", "\\hat x"),
        ("<details><summary>How?</summary>So.</details>", "How?\nSo."),
        ("<svg><title>icon</title><text>label</text></svg><p>x", "x"),
    ],
)
def test_text(markup, expected):
    assert text(markup) == expected


def test_a_table_row_is_a_line_and_cells_that_span_rows_are_repeated():
    markup = (
        "<table><caption>Regatta</caption><thead><tr><th>Year<th>Winner<th></thead>"
        "<tr><td rowspan=2>1991<td>Elsa<br>Brandt<tr><td><p>Otto</p><p>Berg</p></table><p>end"
    )
    assert text(markup) == "Regatta\nYear | Winner\n1991 | Elsa Brandt\n1991 | Otto Berg\n\nend"


@pytest.mark.parametrize(
    "cells",
    ["<td><pre>1\n2</pre><td><pre>a\nb</pre>", "<td><h2>1</h2>2<td>a<p>b</p>", f"<td>{SENTENCE * 9}<td>b"],
)
def test_a_table_that_arranges_blocks_is_not_a_data_table(cells):
    assert " | " not in text(f"<table><tr>{cells}</table>")


def test_headings_have_their_place_and_level():
    parsed = parse_markup("<h1>Snow <i>and</i> ice</h1><p>a</p><ul><li><h3>Melt</h3>b</ul><p>c")
    assert parsed.text == "Snow and ice\n\na\n\nMelt\n\n  b\n\nc"
    assert parsed.headings == [Heading(0, 1, "Snow and ice"), Heading(17, 3, "Melt")]


@pytest.mark.parametrize(
    "around",
    [
        "<nav>OUT</nav>{}",
        "<div role=navigation>OUT</div>{}",
        "<header><a href=/>OUT</a></header>{}<footer>OUT</footer>",
        "<div class='cookie-banner'>OUT</div>{}",
        "<div id=sidebar><a href=/x>OUT</a></div>{}",
        "<ul><li><a href=/x>OUT</a><li><a href=/y>OUT</a></ul>{}",
        "<table><tr><td><a href=x>OUT</a><a href=y>OUT</a><td>{}</table>",
        "{}<div class='relatedPosts'>OUT</div><div class='share buttons'>OUT</div>",
        "{}<form>OUT <input></form><button>OUT</button><script>OUT</script><style>OUT</style>",
        "<p hidden>OUT</p><p style='display: none'>OUT</p>{}",
        "<div>OUT</div><main>{}</main><div>OUT</div>",
        "<p>OUT</p><div role=main>{}</div>",
        "<div>OUT</div><article>{}</article><aside>OUT</aside>",
        "<main>{}<aside><a href=/x>OUT</a></aside></main>",
        "<h2>Head<a class=headerlink href=#h>¶</a></h2>{}",
    ],
)
def test_what_surrounds_the_text_is_left_out(around):
    found = text(around.format(BODY))
    assert "4 Fresh snow" in found
    assert "OUT" not in found
    assert "¶" not in found


@pytest.mark.parametrize(
    "inside",
    [
        "<main><aside class=warning>KEPT</aside>{}</main>",
        "<article><aside>KEPT</aside>{}</article>",
        "<article>{}</article><div id=comments><div class=comment>KEPT</div></div>",
        "<header><h1>KEPT</h1></header><article>{}</article>",
        "<main>{}<footer>KEPT</footer></main>",
        "{}<footer class=footnotes>KEPT</footer>",
        "{}<div class=sidebar>KEPT is a box without links.</div>",
        "{}<section id=social-security>KEPT</section><div class=section id=related-work>KEPT</div>",
        "<ul><li><a href=#a>KEPT</a><li><a href=#b>KEPT</a></ul>{}",
        "<form>{}KEPT</form>",
        "<main>{}<ul><li><a href=x>KEPT</a><li><a href=y>KEPT</a></ul></main>",
        "<div class='admonition sidebar'><a href=x>KEPT</a></div>{}",
    ],
)
def test_what_belongs_to_the_text_is_kept(inside):
    found = text(inside.format(BODY))
    assert "4 Fresh snow" in found
    assert "KEPT" in found


@pytest.mark.parametrize(
    "markup",
    [
        "<main><p>x</main>" + BODY,
        f"<div id=sidebar>{BODY}</div>",
        f"<div hidden>{BODY}</div>",
        f"<nav>Menu</nav><article><p>Teaser</article>{BODY}",
        f"<form>{BODY}</form>",
    ],
)
def test_most_of_a_page_is_never_left_out(markup):
    assert text(markup).count("Fresh snow") == 5


def test_a_page_that_is_a_list_of_links_keeps_them():
    assert text("<ul>" + "<li><a href=/x>Chapter</a>" * 5 + "</ul><p>Intro") == "- Chapter\n" * 5 + "\nIntro"


def test_a_whole_page_keeps_all_that_is_shown():
    assert parse_markup("<nav>Menu</nav><p>x<p hidden>y</p><footer>z</footer>", whole=True).text == "Menu\n\nx\n\nz"


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("<title>Snow\n &amp; ice</title>", "Snow & ice"),
        ("<title>Untitled Document</title>", "First"),
        ("<svg><title>icon</title></svg>", "First"),
        ("", "First"),
    ],
)
def test_title(head, title):
    assert parse_markup(f"{head}<h1>First</h1>{BODY}").title == title


def test_metadata():
    head = (
        "<html lang=de><meta name=author content='Ida Berg'><meta property='og:description' content='On  snow'>"
        "<meta property='article:published_time' content='2024-05-01'><meta name=keywords content=x>"
    )
    assert parse_markup(head + BODY).metadata == {
        "author": "Ida Berg",
        "description": "On snow",
        "date": "2024-05-01",
        "language": "de",
    }


def test_metadata_in_json():
    data = '{"@graph": [{"@type": "WebSite"}, {"datePublished": "2024", "author": [{"name": "Ida"}, {"name": "Bo"}]}]}'
    found = parse_markup(f'<script type="application/ld+json">{data}</script>{BODY}').metadata
    assert found == {"author": "Ida, Bo", "date": "2024"}
    assert parse_markup(f'<script type="application/ld+json">{"[" * 90_000}</script>{BODY}').metadata == {}


def test_empty_elements_of_xhtml_end_where_they_begin():
    markup = (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
        '<script src="a.js"/></head><body><div class="ad"/><p>x<br/>y <a id="z"/>&nbsp;&eacute;</p></body></html>'
    )
    assert text(markup) == "x\ny é"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("<p>é</p>".encode(), "<p>é</p>"),
        ("<p>é</p>".encode("utf-8-sig"), "<p>é</p>"),
        ("<p>é</p>".encode("utf-16"), "<p>é</p>"),
        ("<meta charset=iso-8859-1>“é”".encode("cp1252"), "<meta charset=iso-8859-1>“é”"),
        ("<meta charset=windows-1251>снег".encode("cp1251"), "<meta charset=windows-1251>снег"),
        ("<meta charset='shift_jis'>雪".encode("shift_jis"), "<meta charset='shift_jis'>雪"),
        ("<meta charset=iso-2022-jp>雪".encode("iso2022_jp"), "<meta charset=iso-2022-jp>雪"),
        ("<meta charset=iso-8859-1>é".encode(), "<meta charset=iso-8859-1>é"),
        ("<meta charset=nonsense>é".encode(), "<meta charset=nonsense>é"),
    ],
)
def test_encodings(data, expected):
    assert decode(data).text == expected


@pytest.mark.parametrize("markup", ["", "  \n", "<!-- x -->", "<frameset><frame src=a></frameset>"])
def test_a_page_without_text(tmp_path, markup):
    path = tmp_path / "a.html"
    path.write_text(markup)
    assert (parse(path).text, parse(path).missing) == ("", [])


def test_a_page_that_scripts_fill_says_so():
    (reason,) = parse_markup("<div id=root></div><script>var x</script>").missing
    assert "save the page from a browser" in reason


def test_text_nested_too_deep_is_not_lost_without_a_word():
    assert text("<div>" * 2000 + "deep") == "deep"
    (reason,) = parse_markup("<p>first</p>" + "<div>" * 3000 + "deep").missing
    assert "could not be read" in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "markup",
    [
        "<footer>" * 1000 + "<footer>x</footer>" * 20_000,
        "<p>" + "<button>x</button>tail " * 30_000,
        "<table><tr>" + f"<td rowspan=65534>{'y' * 59}</td>" * 1000 + "<tr><td>x" * 30_000,
        "<sup>" * 2000 + "a " * 100_000,
        "<div>" * 1000 + "<div><a href=x>y</a><a href=x>y</a></div>" * 20_000,
        "<div class=comments>" * 2000 + "<div class=comments>x</div>" * 20_000,
        "<ruby>" * 2000 + "a " * 100_000,
        "<?xml" + "<a " * 300_000,
        "<" * 300_000,
        f'<div class="{"aB" * 300_000}">x</div>',
    ],
)
def test_hostile_pages_are_read_in_the_time_of_a_file(markup):
    parsed = parse_markup(markup)
    assert len(parsed.text) < 30 * len(markup)


def test_bytes_that_cannot_be_decoded_are_counted(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes("<p>Schnee fällt überall, größere Flocken fallen später.".encode() + b"\xff")
    (reason,) = parse(path).missing
    assert "1" in reason or "a place" in reason
    assert "fällt" in parse(path).text


def test_a_binary_file_is_not_a_page(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(UnreadableError, match="binary"):
        parse(path)
