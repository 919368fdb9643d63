"""HTML pages: the main text with its headings, lists, tables and code, and what a page says about itself."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ragx.corpus.encoding import BINARY, Decoded
from ragx.corpus.encoding import decode as decode_text
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError
from ragx.corpus.extract.web.main_region import main_regions
from ragx.corpus.extract.web.page_metadata import page_metadata, page_title
from ragx.corpus.extract.web.page_text import write_text

_HEAD_CHARS = 4096
_XHTML = re.compile(r"<\?xml|www\.w3\.org/1999/xhtml", re.IGNORECASE)
_SELF_CLOSED = re.compile(r"<(?!(?:area|base|br|col|hr|img|input|link|meta|wbr)[\s/])([a-zA-Z][\w:.-]*)([^<>]*)/>")
"""An empty element of XHTML that HTML parsers take for the beginning of one."""
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
_MULTIBYTE = ("iso2022", "gb", "big5", "shift", "cp932", "euc", "hz", "cp949", "johab")
"""Encodings whose bytes may be valid UTF-8 by chance."""
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
"""Soft hyphens and spaces of no width, which only say where a line may break."""


def parse(path: Path) -> Parsed:
    """The main text of a page.

    Raises:
        UnreadableError: it is a binary file.
    """
    decoded = decode(path.read_bytes())
    if BINARY in decoded.notices:
        raise UnreadableError(BINARY)
    page = parse_markup(decoded.text)
    page.missing += decoded.notices
    return page


def parse_markup(markup: str, *, whole: bool = False) -> Parsed:
    """The main text of a page, or all its text: mails and books have no navigation around it."""
    from lxml.etree import HTMLParser, XMLSyntaxError, fromstring

    if _XHTML.search(markup, 0, _HEAD_CHARS):
        markup = _SELF_CLOSED.sub(r"<\1\2></\1>", markup)
    parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        page = fromstring(_INVISIBLE.sub("", markup).encode(errors="replace"), parser)
    except XMLSyntaxError:  # nothing but whitespace
        return Parsed("")
    if page is None:
        return Parsed("")
    text = TextBuilder()
    regions, dropped = main_regions(page, whole=whole)
    for region in regions:
        write_text(region, text, dropped)
    missing = []
    if any("depth" in error.message for error in parser.error_log):
        missing.append("elements nested more than 2,048 deep, and all that follows them, could not be read")
    if not text.text and page.find(".//script") is not None:
        missing.append("has no text: if scripts add it, save the page from a browser that shows it")
    metadata = page_metadata(page) if text.text else {}
    return Parsed(text.text, page_title(page), text.headings, metadata=metadata, missing=missing)


def decode(data: bytes, declared: str = "") -> Decoded:
    """Markup in the encoding of its mark, UTF-8 if valid, the encoding it declares, or the best guess.

    `declared`: the name of an encoding; otherwise the markup is searched for one.
    """
    if not data.startswith(_MARKS):
        if not declared and (found := _CHARSET.search(data, 0, _HEAD_CHARS)):
            declared = found[1].decode()
        name = _known_encoding(declared)
        for encoding in (name, "utf-8") if name.startswith(_MULTIBYTE) else ("utf-8", name):
            try:
                return Decoded(data.decode(encoding or "utf-8"), encoding or "utf-8")
            except UnicodeDecodeError:
                continue
    return decode_text(data) or Decoded(data.decode("utf-8", errors="replace"), "utf-8", (BINARY,))


def _known_encoding(label: str) -> str:
    """Python's name of an encoding, "" if it has none. As in browsers, Latin-1 and ASCII mean Windows-1252."""
    try:
        name = codecs.lookup(label).name
    except LookupError:
        return ""
    if name.startswith(("utf-16", "utf-32", "utf-7")) or not codecs.lookup(label)._is_text_encoding:
        return ""
    return {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}.get(name, name)
