"""reStructuredText files: their source, with its sections as headings.

Kept by hand: docutils drops the text of directives that it does not know, such as Sphinx's.
"""

from __future__ import annotations

import re
from pathlib import Path

from ragx.corpus.document import Heading
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+")
_FIELD = re.compile(r":([A-Za-z][\w -]{0,50}):[ \t]+(\S.*)")
_ROLE = re.compile(r":[\w:.+-]{1,50}:`([^`]*)`")


def parse(path: Path) -> Parsed:
    """The text. The title is the first section's; a list of fields at the beginning is metadata."""
    text, missing = read_source(path)
    text = text.strip("\n").rstrip()
    lines = text.split("\n")
    headings, metadata = [], {}
    levels: list[tuple[str, bool]] = []
    """Adornments in the order in which they first appear: a character, and whether it stands above the title too."""
    start = 0
    for number, line in enumerate(lines):
        below = lines[number + 1].rstrip() if number + 1 < len(lines) else ""
        above = lines[number - 1].rstrip() if number else ""
        if _is_title(line, below):
            over = above == below
            if over or not line[0].isspace():  # else a table or a quoted block
                style = below[0], over
                levels += [style] * (style not in levels)
                headings.append(Heading(start, levels.index(style) + 1, _ROLE.sub(r"\1", line).strip()))
        elif not headings and (field := _FIELD.fullmatch(line)):
            metadata[field[1].lower()] = field[2].strip()
        start += len(line) + 1
    title = headings[0].text if headings else str(metadata.pop("title", ""))
    return Parsed(text, title, headings, metadata=metadata, missing=missing)


def _is_title(line: str, below: str) -> bool:
    return (
        any(map(str.isalnum, line))
        and _ADORNMENT.fullmatch(below) is not None
        and len(below) >= min(len(line.rstrip()), 1000)
    )
