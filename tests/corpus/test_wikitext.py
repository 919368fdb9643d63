"""Wiki markup becomes text that reads like the rendered page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.corpus.document import Heading
from ragx.corpus.wiki.wikitext import MEDIA_NAMESPACES, parse_wikitext


def plain_text(wikitext: str, media_namespaces: frozenset[str] = MEDIA_NAMESPACES) -> str:
    return parse_wikitext(wikitext, media_namespaces)[0]


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Ice''' is ''frozen'' [[water]].", "Ice is frozen water."),
        ("the [[Melting point|melting]]-point of [[snow]]s", "the melting-point of snows"),
        ("[[:Category:Ice|Ice]] [[:File:A.png]] [[#History]] [[a_b]]", "Ice File:A.png History a b"),
        ("a[[File:Snow.jpg|thumb|The [[snow]] line]] b[[Category:Ice]][[Image:x.png]]", "a b"),
        ("text\n[[de:Schnee]] [[zh-min-nan:X]] [[wikt:snow|snow]]", "text\nsnow"),
        ("[http://example.org the site] http://example.org/a [http://example.org]", "the site http://example.org/a"),
        ("cold<ref>Source, p. 3</ref><ref name=a /> today", "cold today"),
        ("one<!-- hidden -->two&nbsp;&amp;&#32;three &lt;x&gt;", "onetwo & three <x>"),
        ("H<sub>2</sub>O at 10<sup>−3</sup> m<sup>2</sup>, 2<sup>nd</sup>", "H2O at 10⁻³ m², 2nd"),
        ("a<br>b<br />c<nowiki/>d&#1;", "a\nb\ncd"),
        ("* one\n* two\n** three\n# four\n: five", "one\ntwo\nthree\nfour\nfive"),
        ("<math>f''(x) &lt; 2</math> <nowiki>[[x]] ''y''</nowiki> <code>''y''</code>", "f''(x) < 2 [[x]] ''y'' y"),
        ("__NOTOC__\na\n----\nb", "a\n\nb"),
        ("a\n<gallery>\nFile:A.png|one\n</gallery>\nb", "a\n\nb"),
        ('{{start}}\n{| class="x"\n|-\n| a || b\n{{end}}\ntext', "a | b\n\ntext"),
        ("a\n\n\n\nb  c\td", "a\n\nb c d"),
    ],
)
def test_markup(wikitext, text):
    assert plain_text(wikitext) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{convert|100|km}}", "100 km"),
        ("{{Convert|1,300|mi|km|0|abbr=on}}", "1,300 mi"),
        ("{{convert|400|to|670|mm|in}}", "400 to 670 mm"),
        ("{{cvt|2|-|3.5|°C|°F}}", "2 - 3.5 °C"),
        ("{{convert|6|ft|4|in|cm|0}}", "6 ft 4 in"),
        ("{{convert|-40|C|F}}", "-40 °C"),
        ("{{convert|22|e6acre|km2}}", "22 million acre"),
        ("{{convert|5|km2|sqmi}}", "5 km²"),
        ("{{convert}}", ""),
        ("{{val|6.241|e=18|u=m}}", "6.241×10¹⁸ m"),
        ("{{val|1.008|(7)}}", "1.008(7)"),
        ("{{val|1.008|0.002}}", "1.008 ± 0.002"),
        ("{{lang|de|[[Schnee]]}}", "Schnee"),
        ("{{lang-fr|neige}}", "French: neige"),
        ("{{langx|de|Alte Brücke}} {{langx|xx|abc}}", "German: Alte Brücke abc"),
        ("{{ill|Otto Berg|de}} {{stn|Kiel}} {{rws|Kiel}}", "Otto Berg Kiel Kiel railway station"),
        ("{{US$|40 million}} {{£|3 million|link=yes}} {{EUR|5}}", "US$40 million £3 million €5"),
        ("{{formatnum:12345}} {{formatnum:1234567.5}} {{formatnum:12}} {{formatnum:x}}", "12,345 1,234,567.5 12 x"),
        (
            "{{ship|HMS|Victory}} {{ship||Titanic}} {{SS|Oria|1920}} {{sclass|Nimitz|carrier}}",
            "HMS Victory Titanic SS Oria Nimitz-class carrier",
        ),
        (
            "{{birth date|1931|5|8}} {{start date|1931|05}} {{film date|1931}} {{end-date|May 1931}}",
            "8 May 1931 May 1931 1931 May 1931",
        ),
        (
            "{{height|m=1.88}} {{sortname|Ida|Berg}} {{color|red|warm}} {{yes}} {{won|Twice}}x{{nbsp|3}}y",
            "1.88 m Ida Berg warm Yes Twicex y",
        ),
        ("{{unheard of|[[kept]]|x}} {{unheard of}} {{unheard of|a.jpg}} {{unheard of|x=1}}", "kept"),
        ("{{sfn|Smith|1999}} {{cite book|x}} {{de icon}} {{IPAc-en|x}} {{#if:x|y}} {{DEFAULTSORT:x}}", ""),
        ("{{nowrap|10 {{convert|3|m}}}}", "10 3 m"),
        ("{{quote|text={{small|deep}} snow|author=X}}", "deep snow"),
        ("{{frac|1|2}} {{frac|3}} {{frac|2|1|4}}", "1/2 1/3 2 1/4"),
        ("{{chem|H|2|O}}", "H2O"),
        ("{{As of|2015|6|30}} {{as of|2014|lc=y}}", "As of 30 June 2015 as of 2014"),
        ("{{nihongo|snow|雪|yuki}}", "snow (雪, yuki)"),
        ("{{circa|1900}} {{HMS|Snow|22|6}} {{simpleNuclide2|carbon|14}}", "c. 1900 HMS Snow carbon-14"),
        ("10{{e|24}} 1{{ndash}}2 x{{sup|2}}", "10×10²⁴ 1–2 x²"),
        ("{{Infobox ice\n| name = Ice\n| density = {{convert|917|kg/m3}}\n}}", ""),
        ("{{cite web|url=http://example.org|title=Snow}}{{citation needed}}", ""),
    ],
)
def test_a_template_keeps_its_text_if_it_stands_for_text(template, text):
    assert plain_text(f"a {template} b") == " ".join(f"a {text} b".split())


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Albedo''' ({{IPAc-en|æ}}; from [[Latin]]) is", "Albedo (from Latin) is"),
        ("'''Albedo''' ({{IPAc-en|æ}}) is", "Albedo is"),
        ("'''Albedo''' (whiteness; {{IPAc-en|æ}}) is", "Albedo (whiteness) is"),
        ("cold {{fact}}. Warm {{fact}}, too", "cold. Warm, too"),
    ],
)
def test_a_dropped_template_leaves_no_orphaned_punctuation(wikitext, text):
    assert plain_text(wikitext) == text


def test_headings_stay_except_those_of_empty_sections():
    wikitext = "lead\n==A==\n===A1===\ntext\n==Empty==\n===Also empty===\n{{reflist}}\n==B==\n* item\n==References==\n"
    assert plain_text(wikitext) == "lead\n\nA\n\nA1\ntext\n\nB\nitem"


def test_another_wiki_names_its_namespaces_differently():
    wikitext = "a [[Datei:Schnee.jpg|Schnee]] b"
    assert plain_text(wikitext) == "a Schnee b"
    assert plain_text(wikitext, MEDIA_NAMESPACES | {"datei"}) == "a b"


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        (
            'a\n{| class="wikitable"\n|+ Cap\n! Year !! Who\n|-\n| 1991 || [[Elsa]]<br>Brandt\n|}\nb',
            "a\n\nCap\nYear | Who\n1991 | Elsa Brandt\n\nb",
        ),
        ("{|\n| a\n| {{flag|Kenya}}\n|-\n! scope=row | c\n| colspan=2 | d\n|}", "a | Kenya\nc | d"),
        ("{|\n| a\n* one\n* two\n| \n{|\n| inner || table\n|}\n|}", "a one two | inner | table"),
        ("<table><tr><th>A</th><td>b</td></tr><tbody><tr><td>c</td></tr></tbody></table>", "A | b\nc"),
        ("{|\n|}", ""),
    ],
)
def test_each_row_of_a_table_is_a_line(wikitext, text):
    assert plain_text(wikitext) == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        (
            "{{Infobox town\n| name = Tolm\n| population_total = 4,312\n| mayor = [[Greta Fahl]]\n}}\nText.",
            "name: Tolm\npopulation total: 4,312\nmayor: Greta Fahl\n\nText.",
        ),
        (
            "{{Box\n|image=a.jpg|image_size=5|a=\n|b=yes|c=x<br>y|d={{plainlist|\n* one\n* two\n}}}}",
            "c: x; y\nd: one; two",
        ),
        ("{{Use dmy dates|date=2015}}{{Box\n|a=x|b=z}}<!-- c -->\ntext", "a: x\nb: z\n\ntext"),
        ("in a sentence {{box|a=x|b=y}}.", "in a sentence."),
        ("* {{unheard of|one}}\n* two", "one\ntwo"),
        ("{{unheard of|alone}}\ntext", "text"),
        ("{{Cite book|title=x|year=1999}}\n{{Navbox|a=x|b=y}}\n{{Authority control|a=1|b=2}}", ""),
    ],
)
def test_each_value_of_a_box_is_a_line(wikitext, text):
    assert plain_text(wikitext) == text


def test_headings_have_their_place_and_level():
    text, headings = parse_wikitext("lead cafe\u0301\n==Sno\u0308w & [[ice]]==\ntext\n===Melt===\n* x\n==Empty==\n")
    assert text == "lead café\n\nSnöw & ice\ntext\n\nMelt\nx"
    assert headings == [Heading(11, 2, "Snöw & ice"), Heading(28, 3, "Melt")]


markup = st.lists(
    st.sampled_from([*"[[]]{{}}||==''<>*#:\n ab1&;-!", "<ref>", "</ref>", "{|", "|}", "convert|", "[[File:"])
)


@given(markup.map("".join))
def test_any_markup_gives_clean_text(wikitext):
    text = plain_text(wikitext)
    assert "\ue000" not in text
    assert "\n\n\n" not in text
    assert text == text.strip()
