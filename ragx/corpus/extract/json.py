"""JSON files: their values with their keys, a line each. Objects within objects are sections.

Settings are often written with comments and with commas behind the last items; both are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError
from ragx.corpus.extract.source import read_source

SECTION_LEVELS = 3
"""Values nested deeper, and those in lists, are lines "outer.inner: value"."""
MAX_DEPTH = 100
MAX_KEY_CHARS = 200
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*+"?)|//[^\n]*+|/\*.*?(?:\*/|\Z)', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*+[}\]])', re.DOTALL)


def parse(path: Path) -> Parsed:
    """The text of a JSON document, or of JSON lines.

    Raises:
        UnreadableError: it is not valid JSON, or nested too deeply.
    """
    source, missing = read_source(path)
    value = _loads(source.lstrip("\ufeff"))
    text = TextBuilder()
    separator = "\n\n"
    for level, line in _lines(value, "", 1):
        if level:
            text.heading(line, level)
        elif line:
            text.add(line, separator)
        separator = "\n" if line else "\n\n"
    title = value.get("title") if isinstance(value, dict) else ""
    return Parsed(text.text, title if isinstance(title, str) else "", text.headings, missing=missing)


def _loads(source: str) -> Any:
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        reason = str(error)
    lines = [line for line in source.split("\n") if line.strip()]
    try:
        if len(lines) > 1 and lines[0].lstrip().startswith(("{", "[")):
            return [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(_LAST_COMMA.sub(r"\1", _COMMENT.sub(lambda match: match[1] or " ", source)))
    except (ValueError, RecursionError):
        raise UnreadableError(f"is not valid JSON: {reason}") from None


def _lines(value: object, name: str, level: int) -> Iterator[tuple[int, str]]:
    """The lines of a value, each with its level as a heading, or 0. An empty line begins a paragraph."""
    if level > MAX_DEPTH:
        raise UnreadableError(f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        prefix = f"{name}." if name else ""
        for key, item in value.items():
            if not _is_nested(item):
                yield from _lines(item, prefix + key[:MAX_KEY_CHARS], level)
        for key, item in value.items():
            if not _is_nested(item):
                continue
            if level <= SECTION_LEVELS:
                yield level, key
                yield from _lines(item, "", level + 1)
            else:
                yield from _lines(item, prefix + key[:MAX_KEY_CHARS], level + 1)
    elif isinstance(value, list) and _is_nested(value):
        for item in value:
            yield 0, ""
            yield from _lines(item, name, max(level, SECTION_LEVELS) + 1)
    else:
        line = ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value)
        if line:
            yield 0, f"{name}: {line}" if name else line


def _is_nested(value: object) -> bool:
    return bool(value) and (
        isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value))
    )


def _scalar(value: object) -> str:
    if value is None or isinstance(value, dict | list):  # an empty one
        return ""
    return value if isinstance(value, str) else json.dumps(value)
