"""Org files: their source without drawers and comments, with its headlines as headings."""

from __future__ import annotations

import re
from pathlib import Path

from ragx.corpus.document import Heading
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

_HEADLINE = re.compile(r"(\*+)[ \t]++(?:(?:TODO|DONE|NEXT|WAITING|CANCELLED)[ \t]++)?(?:\[#\w\][ \t]++)?(\S.*)")
_TAGS = re.compile(r"[ \t]+:[\w@#%:]+:$")
_KEYWORD = re.compile(r"[ \t]*+#\+([A-Za-z_]+):[ \t]*+(.*)")
_LINK = re.compile(r"\[\[[^\[\]]*\]\[([^\[\]]*)\]\]")
_METADATA = ("author", "date", "email", "description", "keywords", "filetags", "language", "subtitle")
_MAX_HEADLINE = 1000


def parse(path: Path) -> Parsed:
    """The text. The title is `#+TITLE`, else the first headline; the keywords of the document are metadata."""
    text, missing = read_source(path)
    kept: list[str] = []
    headings: list[Heading] = []
    metadata: dict[str, object] = {}
    title, drawer, start = "", False, 0
    for line in text.split("\n"):
        bare = line.strip()
        if drawer or (bare.upper() in (":PROPERTIES:", ":LOGBOOK:")):
            drawer = bare.upper() != ":END:"
            continue
        if bare == "#" or bare.startswith("# ") or (not kept and not bare):
            continue
        if keyword := _KEYWORD.fullmatch(line):
            name, value = keyword[1].lower(), keyword[2].strip()
            if name == "title":
                title = f"{title} {value}".strip()
            elif name in _METADATA and value:
                metadata[name] = value
            if not name.startswith(("begin", "end", "caption")):
                continue
        elif headline := _HEADLINE.fullmatch(line[:_MAX_HEADLINE]):
            name = _LINK.sub(r"\1", _TAGS.sub("", headline[2].rstrip()))
            if any(map(str.isalnum, name)):
                headings.append(Heading(start, len(headline[1]), name))
        kept.append(line)
        start += len(line) + 1
    title = title or next((heading.text for heading in headings), "")
    return Parsed("\n".join(kept).rstrip(), title, headings, metadata=metadata, missing=missing)
