"""Files of text with light markup: reStructuredText, Org, LaTeX, subtitles, YAML, JSON."""

from __future__ import annotations

import json

import pytest

from tests.corpus.extract.conftest import headings


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Snow\n====\n\ntext", "Snow"),
        ("====\nSnow\n====\n", "Snow"),
        ("text\n\nLater\n-----\n", "Later"),
        ("On :ref:`snow`\n==============\n", "On snow"),
        ("Longer than its line\n===\n", "a"),
        (".. note::\n   text\n", "a"),
        ("====  ====\na     b\n====  ====\n", "a"),
        (":title: Snow\n:author: X\n\ntext\n", "Snow"),
    ],
)
def test_the_title_of_restructured_text_is_its_first_section(parse, text, title):
    assert parse("a.rst", text)[0].title == title


def test_sections_of_restructured_text(parse):
    document, _ = parse(
        "a.rst", ":author: X\n\n=====\nTitle\n=====\n\nOne\n---\n\nDeep\n~~~~\n\nTwo\n---\n\n  a\n  --\n"
    )
    assert headings(document) == [(1, "Title"), (2, "One"), (3, "Deep"), (2, "Two")]
    assert json.loads(document.metadata) == {"author": "X"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.rst", "x" * 5000 + "\n" + "=" * 5000),
        ("a.json", json.dumps({"x" * 5000: {"a": 1}})),
        ("a.md", "# " + "x" * 5000),
    ],
)
def test_what_every_passage_repeats_of_a_heading_is_short(parse, name, text):
    ((_, heading),) = headings(parse(name, text)[0])
    assert len(heading) <= 300


def test_org(parse):
    document, _ = parse(
        "a.org",
        "#+TITLE: The mill\n#+AUTHOR: X\n\n* TODO [#A] Keys :a:b:\n:PROPERTIES:\n:ID: 1\n:END:\nIn the smithy.\n"
        "# a comment\n"
        "** [[https://example.org][Where]]\n#+begin_src sh\nls\n#+end_src\n*bold* text\n",
    )
    assert (document.title, json.loads(document.metadata)) == ("The mill", {"author": "X"})
    assert headings(document) == [(1, "Keys"), (2, "Where")]
    assert "In the smithy." in document.text
    assert not any(word in document.text for word in (":ID:", "comment", "TITLE"))


LATEX = r"""\documentclass{article}
\newcommand{\foo}[1]{\emph{#1}}
\title{On \textbf{snow}\thanks{a grant}}
\author{Ann \and Bo}
\begin{document}
\maketitle
\begin{abstract}
We study snow. % a comment
\end{abstract}
\section{Fresh snow}\label{sec:fresh}
It reflects \emph{most} light~\cite{a,b}; $x^2+\alpha$. Caf\'e, na\"{\i}ve, \verb|a_b|, \href{https://x.org}{a link}.
\subsection*{Details}
\begin{itemize}
\item first \item second
\end{itemize}
\begin{equation} E = mc^2 \end{equation}
\begin{tabular}{ll} \hline a & b \\ c & d \end{tabular}
\begin{figure}\includegraphics[width=3cm]{x.png}\caption{The caption}\end{figure}
\begin{lstlisting}[language=Python]
x = 1 % 2
\end{lstlisting}
\unknown{kept}\footnote{a note}
\end{document}
"""


def test_latex(parse):
    document, reasons = parse("a.tex", LATEX)
    assert (document.title, json.loads(document.metadata)) == ("On snow", {"author": "Ann; Bo"})
    assert headings(document) == [(1, "Fresh snow"), (2, "Details")]
    words = ("We study snow.", "most light", "[a,b]", r"$x^2+\alpha$", "Café, naïve, a_b, a link", "first", "second")
    for word in (*words, "E = mc^2", "a | b\nc | d", "The caption", "x = 1 % 2", "kept (a note)"):
        assert word in document.text
    assert not any(word in document.text for word in ("\\", "comment", "label", "png", "grant", "article", "sec:")) or (
        document.text.count("\\") == 1
    )
    assert reasons == []


@pytest.mark.parametrize("environment", ["verbatim", "lstlisting", "Verbatim", "comment", "tikzpicture", "equation*"])
def test_an_environment_ends_where_it_ends(parse, environment):
    block = rf"\\section{{Snow}} Fresh. \\begin{{{environment}}} a_b \\end{{{environment}}} Old."
    document, _ = parse("a.tex", block.replace("\\\\", "\\") * 3)
    assert len(document.headings) == 3
    assert document.text.count("Old.") == 3


def test_a_chapter_without_a_preamble(parse):
    document, _ = parse("a.tex", "\\chapter{Snow}\nFresh.\n\n\\section{Old}\nGrey.")
    assert headings(document) == [(1, "Snow"), (2, "Old")]
    assert document.title == "a"
    assert document.text == "Snow\n\nFresh.\n\nOld\n\nGrey."


def test_subrip(parse):
    document, _ = parse(
        "a.srt",
        "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Hello</i> there\r\n\r\n2\r\n00:00:02,000 --> 00:00:03,500\r\n"
        "Hello there\r\n- 1802 &amp; all\r\n",
    )
    assert document.text == "Hello there\n- 1802 & all"
    assert json.loads(document.metadata) == {"duration": "00:00:03.500"}


def test_webvtt(parse):
    document, _ = parse(
        "a.vtt",
        "WEBVTT - x\n\nSTYLE\n::cue {}\n\nNOTE hidden\nstill\n\nid1\n00:01.000 --> 00:02.000 align:start\n"
        "<v.loud Ann>Hi <00:01.500><c>you</c>\n\n00:03.000 --> 00:04.000\nBye\n",
    )
    assert document.text == "Ann: Hi you\nBye"


def test_json_objects_are_sections_and_values_have_their_keys(parse):
    value = {
        "title": "Harbour",
        "open": True,
        "tags": ["a", "b"],
        "rules": {"dogs": "on a lead", "fees": {"boat": 3.5, "note": None}},
        "people": [{"name": "Ann", "address": {"city": "X"}}, {"name": "Bo"}],
    }
    document, _ = parse("a.json", json.dumps(value))
    assert document.title == "Harbour"
    assert headings(document) == [(1, "rules"), (2, "fees"), (1, "people")]
    assert document.text == (
        "title: Harbour\nopen: true\ntags: a, b\n\nrules\ndogs: on a lead\n\nfees\nboat: 3.5\n\npeople\n\n"
        "name: Ann\naddress.city: X\n\nname: Bo"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [('"snow"', "snow"), ("[1, 2]", "1, 2"), ('{"a": 1}\n{"a": 2}\n', "a: 1\n\na: 2"), ('\ufeff{"a": "é"}', "a: é")],
)
def test_other_json(parse, text, found):
    assert parse("a.json", text)[0].text == found


def test_settings_may_have_comments_and_commas_behind_the_last_items(parse):
    text = """// the mill's settings
{
    "url": "http://a.org/*b*/", /* several
    lines */ "path": "C:\\\\", // "quoted"
    "text": "one, ] two // three",
    "list": [1, 2, ],
}"""
    document, reasons = parse("settings.jsonc", text)
    assert document.text == "url: http://a.org/*b*/\npath: C:\\\ntext: one, ] two // three\nlist: 1, 2"
    assert reasons == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{",
            "{'a': 1}",
            "/*" * 500_000,
            '"' * 500_001,
            "//" * 500_000,
            "," * 500_000,
            "[1 /* a",
            '{"a": "b /*"',
            '"\\' * 500_000,
        ),
        *("[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900),
    ],
)
def test_bad_json_is_skipped_in_one_line(parse, text):
    document, (reason,) = parse("a.json", text)
    assert document is None
    assert "JSON" in reason or "nested" in reason


def test_yaml_keeps_its_comments(parse):
    text = "# main\nservices:\n  web:\n    image: nginx\n    ports: [80]\n  db: {image: pg}\nlist:\n  - a: {b: c}\n"
    document, _ = parse("a.yaml", text)
    assert document.text == text.strip()
    assert headings(document) == [(1, "services"), (2, "web"), (1, "list")]
    document, reasons = parse("b.yml", "{{- if .Values.x }}\na: b\n{{ end }}\n")  # a template
    assert (document.text.split("\n")[1], reasons) == ("a: b", [])


HOSTILE = {
    "a.rst": ["=" * 100_000 + "\n" + "a" * 100_000 + "\n" + "=" * 100_000, ":`a" * 100_000 + "\n" + "=" * 300_000],
    "a.org": ["* " + " " * 100_000 + "\n" + "* [[" * 100_000, "* a\n" * 200_000, "#+" + "a" * 100_000],
    "a.tex": [
        *("{" * 30_000, r"\begin{a}" * 10_000, "$" * 20_000, "$a $$b " * 5000, "\\" * 20_000, r"\verb|" * 5000),
        *(
            r"\item[" * 5000,
            r"\section{" * 5000,
            r"\frac{" * 1000,
            "\\'" * 20_000,
            r"\cite" * 5000,
            "\n \t" * 30_000 + "a",
        ),
        *(r"\begin{tabular}{l}" + "&" * 20_000 + r"\end{tabular}", "%" * 100_000),
    ],
    "a.srt": ["<" * 200_000, "1:00,0 --> " * 50_000, "1\n0:1,0 --> 0:1,0\n" + "<v a" * 100_000, "\n \t" * 200_000],
    "a.vtt": ["{\\" * 100_000, "WEBVTT\n\n" + "0:1.0 --> " + "0" * 100_000],
    "a.yaml": ["[" * 50_000, "- " * 20_000, "? " * 20_000, "{" * 50_000, "a: &a [*a]\n", "&a " * 10_000, "!" * 50_000],
    "a.json": ["[" * 1_000_000, '{"a":' * 100_000, '"' + "a" * 1_000_000, "[" + "1," * 500_000 + "1]", "9" * 100_000],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content"), [(name, content) for name in HOSTILE for content in HOSTILE[name]])
def test_hostile_files_are_read_or_skipped_in_one_line(parse, name, content):
    document, reasons = parse(name, content)
    assert document or reasons
    assert not any("crashed" in reason or "seconds" in reason for reason in reasons)
