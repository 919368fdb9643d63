"""Markdown files (CommonMark; also MDX): their source without front matter, comments and embedded images."""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.corpus.document import Heading
from ragx.corpus.extract.front_matter import split_front_matter
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

if TYPE_CHECKING:
    from markdown_it.token import Token

_DATA_URI = re.compile(r"data:[a-z]+/[^()\[\]<>\"'\s]{100,}")
_MODULE = re.compile(r"(import|export)\s")
_TITLE = ("title", "Title", "TITLE")


def parse(path: Path) -> Parsed:
    """The text, whose markup is kept. The title is that of the front matter, else the first heading."""
    text, missing = read_source(path)
    metadata, body, problems = split_front_matter(text)
    body, headings = outline(body, modules=path.suffix.lower() == ".mdx")
    named = next((str(metadata.pop(name)) for name in _TITLE if isinstance(metadata.get(name), str | int)), "")
    title = named or next((heading.text for heading in headings), "")
    return Parsed(body, title, headings, metadata=metadata, missing=missing + problems)


def outline(text: str, *, modules: bool = False) -> tuple[str, list[Heading]]:
    """Markdown without comments, embedded images and blank lines at its ends, and its headings.

    `modules`: drop the paragraphs that import or export names (MDX).
    """
    from markdown_it import MarkdownIt

    text = _DATA_URI.sub("data:…", text)
    lines = text.split("\n")
    parser = MarkdownIt("commonmark").disable(["inline", "text_join"])  # blocks alone: inlines can take quadratic time
    tokens = parser.parse(text)
    inline = MarkdownIt("commonmark")
    dropped: set[int] = set()
    found: dict[int, tuple[int, str]] = {}
    for token, content in zip_longest(tokens, tokens[1:]):
        first, last = token.map or (0, 0)
        if token.type == "heading_open" and content is not None and token.level == 0:
            heading = _plain(inline.parseInline(content.content[:1000])[0])
            if any(map(str.isalnum, heading)):
                found[first] = int(token.tag[1]), heading
        elif _is_comment(token) or (modules and _is_module(token, lines)):
            dropped.update(range(first, last))
    kept: list[str] = []
    start, headings = 0, []
    for number, line in enumerate(lines):
        if number in dropped or (not kept and not line.strip()):
            continue
        if number in found:
            headings.append(Heading(start, *found[number]))
        kept.append(line)
        start += len(line) + 1
    return "\n".join(kept).rstrip(), headings


def _is_comment(token: Token) -> bool:
    html = token.content.strip() if token.type == "html_block" else ""
    return html.startswith("<!--") and html.endswith("-->") and html.count("-->") == 1


def _is_module(token: Token, lines: list[str]) -> bool:
    if token.type != "paragraph_open" or token.level or token.map is None:
        return False
    return _MODULE.match(lines[token.map[0]]) is not None


def _plain(inline: Token) -> str:
    """The text of a heading without its markup."""
    parts = []
    for token in inline.children or ():
        if token.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif token.type in ("text", "code_inline", "image"):
            parts.append(token.content)
    return " ".join("".join(parts).split())
