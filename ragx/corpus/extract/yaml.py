"""YAML files: their source, comments and all, with the keys of nested mappings as headings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ragx.corpus.document import Heading
from ragx.corpus.extract.parsed import Parsed
from ragx.corpus.extract.source import read_source

SECTION_LEVELS = 3
MAX_DEPTH = 100


def parse(path: Path) -> Parsed:
    """The text. A file that is not valid YAML, such as a template, has no headings."""
    import yaml

    source, missing = read_source(path)
    text = source.strip("\n").rstrip()
    starts = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    try:
        headings = [Heading(starts[line], level, name) for line, level, name in _sections(text)]
    except (yaml.YAMLError, ValueError):
        headings = []
    return Parsed(text, headings=headings, missing=missing)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come."""

    is_mapping: bool
    key: str = ""
    line: int = 0
    at_value: bool = False


def _sections(text: str) -> Iterator[tuple[int, int, str]]:
    """Line, level and name of each key whose value is a mapping or sequence that begins below it.

    Events, not nodes: building nodes of deep nesting overflows the stack of libyaml.
    """
    import yaml

    opened: list[_Open] = []
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionEndEvent):
            opened.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        line = event.start_mark.line if event.start_mark else 0
        if opened and (above := opened[-1]).is_mapping:
            if not above.at_value:
                above.key, above.line = getattr(event, "value", ""), line
            elif isinstance(event, yaml.CollectionStartEvent) and line > above.line and len(opened) <= SECTION_LEVELS:
                name = " ".join(above.key.split())[:200]
                if name and all(outer.is_mapping for outer in opened):
                    yield above.line, len(opened), name
            above.at_value = not above.at_value
        if isinstance(event, yaml.CollectionStartEvent):
            if len(opened) == MAX_DEPTH:
                raise ValueError("nested too deeply")
            opened.append(_Open(isinstance(event, yaml.MappingStartEvent)))
