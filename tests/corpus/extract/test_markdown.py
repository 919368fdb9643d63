"""Markdown files: title, headings and front matter."""

from __future__ import annotations

import json

import pytest

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Snow and ice #\ntext", "Snow and ice"),
        ("intro\n\n## Second level\n# First", "Second level"),
        ("```sh\n# a comment\n```\n# Real", "Real"),
        ("~~~~\n# a comment\n~~~\n~~~~\n# Real", "Real"),
        ("    # indented code\n\n# Real", "Real"),
        ("<!--\n# commented\n-->\n\n# Real", "Real"),
        ("Underlined\n====\ntext", "Underlined"),
        ("# `code`, *stress* & [a link](x) ![image](y)\n", "code, stress & a link image"),
        ("# Te\u0301\n", "Té"),
        ("---\ntitle: Rules of the harbour\n# reviewed in May\n---\n\n# Where\n", "Rules of the harbour"),
        ("---\n# reviewed in May\nauthor: x\n---\n\n# Where\n", "Where"),
        ("+++\ntitle = 'Rules'\n+++\ntext", "Rules"),
        ("---\ntitle: Harbour: the rules\n---\ntext", "Harbour: the rules"),
        ("\ufeff---\r\ntitle: Rules\r\n---\r\ntext", "Rules"),
        ("#hashtag\nno heading", "a"),
        ("#   \n\ntext", "a"),
        ("---\n\nkey: value\n", "a"),
        ("---\n- list\n---\ntext", "a"),
    ],
)
def test_the_title_is_the_front_matters_or_the_first_heading_or_the_files_name(parse, text, title):
    document, _ = parse("a.md", text)
    assert document.title == title


def test_front_matter_is_metadata_and_not_text(parse):
    document, reasons = parse(
        "a.markdown",
        "---\ntitle: Mill\ntags: [keys, mill]\nauthor:\n  name: X\ndate: 2021-05-04\ndraft: false\n...\n\nThe key.\n",
    )
    assert document.text == "The key."
    metadata = json.loads(document.metadata)
    assert metadata == {"tags": ["keys", "mill"], "author.name": "X", "date": "2021-05-04", "draft": False}
    assert reasons == []


def test_broken_front_matter_keeps_its_plain_lines_and_says_so(parse):
    document, (reason,) = parse("a.md", "---\ntitle: Mill\nnote: a: b: c\nlist: [1\n---\nThe key.\n")
    assert document.title == "Mill"
    assert "front matter" in reason


def test_headings_are_found_where_they_stand(parse):
    text = "\n\nIntro.\n\n# One\n\n## Two\n\n- # in a list\n\n> # in a quote\n\nThree\n-----\n\n#### Four\n"
    document, _ = parse("a.md", text)
    assert [(h.level, h.text, document.text[h.start :].split("\n")[0]) for h in document.headings] == [
        (1, "One", "# One"),
        (2, "Two", "## Two"),
        (2, "Three", "Three"),
        (4, "Four", "#### Four"),
    ]


def test_comments_embedded_images_and_modules_are_dropped(parse):
    document, _ = parse(
        "a.mdx",
        f"import A from 'a'\n\n<!-- a note -->\n# One\n\n![x](data:image/png;base64,{LONG}) seen\n\n<A/> text\n",
    )
    assert document.text.split("\n") == ["# One", "", "![x](data:…) seen", "", "<A/> text"]
    assert [heading.start for heading in document.headings] == [0]


HOSTILE = {
    "quotes": ">" * 50_000,
    "brackets": "[" * 200_000,
    "links": "[a](b" * 50_000,
    "emphasis": "*a **b " * 50_000,
    "lists": "".join("  " * depth + "- a\n" for depth in range(1000)),
    "references": "[a]: b\n" * 20_000,
    "comments": "<!--" * 50_000,
    "heading": "# " + "*a_ " * 50_000,
    **{f"spaces in {line}": line.format(" " * 99_000) for line in ("# {}", "# a{}b", "# a{}#", "{}# a", "#{}", "{}=")},
    "yaml nesting": "---\na: " + "[" * 10_000 + "\n---\nx",
    "yaml aliases": "---\na: &a [x]\n"
    + "".join(
        f"{b}: &{b} {{x: *{a}, y: *{a}}}\n" for a, b in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True)
    )
    + "---\nx",
    "toml keys": "+++\n" + "a." * 8000 + "a = 1\n+++\nx",
    "number": "---\na: " + "9" * 10_000 + "\n---\nx",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_markdown_is_read_or_skipped_in_one_line(parse, kind):
    document, reasons = parse("a.md", HOSTILE[kind])
    assert document or reasons
    assert not any("crashed" in reason or "seconds" in reason for reason in reasons)
    if document:
        assert len(document.metadata) < 40_000
