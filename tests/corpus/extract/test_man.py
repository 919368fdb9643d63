"""Manual pages."""

from __future__ import annotations

from ragx.corpus.formats import format_of
from tests.corpus.extract.conftest import headings


def test_man(parse):
    document, _ = parse(
        "mill.1",
        '.\\" a comment\n.TH MILL 1 2026\n.SH NAME\nmill \\- grinds corn\n.SH "OPTIONS AND KEYS"\n.TP\n\\fB\\-q\\fR, '
        "\\fB\\-\\-quiet\\fP\nDon\\(aqt talk; see\n.BR cat (1).\n.nf\n\\&.rc caf\\['e] \\[u00E9]\n.fi\n.PP\nThe key is "
        "\\*(lqred\\*(rq\\c\n",
    )
    assert document.title == "mill(1)"
    assert headings(document) == [(1, "NAME"), (1, "OPTIONS AND KEYS")]
    assert document.text == (
        "NAME\nmill - grinds corn\n\nOPTIONS AND KEYS\n\n-q, --quiet\nDon't talk; see\ncat(1).\n.rc caf é\n\n"
        "The key is “red”"
    )


def test_mdoc(parse):
    document, _ = parse(
        "mill.8",
        ".Dd May 1, 2026\n.Dt MILL 8\n.Os\n.Sh NAME\n.Nm mill\n.Nd grinds corn\n.Sh SYNOPSIS\n.Nm\n.Op Fl q Ar file\n"
        ".Sh DESCRIPTION\n.Bl -tag -width Ds\n.It Fl q\nQuiet, as\n.Xr cat 1\n.El\n",
    )
    assert document.title == "mill(8)"
    assert document.text == (
        "NAME\nmill\ngrinds corn\n\nSYNOPSIS\nmill\n-q file\n\nDESCRIPTION\n\n-q\nQuiet, as\ncat 1"
    )


def test_other_files_with_a_number_are_no_manual_pages(tmp_path):
    for name, format in {"app.log.1": "text", "libmill.so.6": None, "notes.2": None}.items():
        (tmp_path / name).write_text("May: the key is red\n")
        assert format_of(tmp_path / name) == format
