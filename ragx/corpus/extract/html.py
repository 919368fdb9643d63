"""HTML pages: the main text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragx.corpus.extract.parsed import Parsed, clean

BLOCKS = ("p", "div", "br", "h1", "h2", "h3", "h4", "h5", "h6", "li", "tr", "td", "th", "pre", "blockquote", "dt", "dd")
"""Elements that are separated by line breaks."""


def parse(path: Path) -> Parsed:
    """The main text of a page, or all its text where none is found."""
    from lxml.etree import ParserError, strip_elements
    from lxml.html import HTMLParser, document_fromstring
    from trafilatura import bare_extraction
    from trafilatura.utils import decode_file

    markup = decode_file(path.read_bytes())
    try:
        page: Any = document_fromstring(markup.encode(), parser=HTMLParser(encoding="utf-8"))
    except ParserError:  # nothing but whitespace
        return Parsed("")
    title = next((element.text_content() for tag in ("title", "h1") for element in page.iter(tag)), "")
    content: Any = bare_extraction(markup, include_comments=False)
    if content is not None and content.text:
        return Parsed(clean(content.text).strip(), title)
    strip_elements(page, "head", "script", "style", "noscript", "template", with_tail=False)
    for block in page.iter(*BLOCKS):
        block.text, block.tail = "\n" + (block.text or ""), "\n" + (block.tail or "")
    lines = (" ".join(line.split()) for line in page.text_content().split("\n"))
    return Parsed(clean("\n".join(line for line in lines if line)), title)
