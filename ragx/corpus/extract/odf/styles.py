"""Styles of OpenDocument files: the parents of paragraph styles, and the labels of lists."""

from __future__ import annotations

import re
from typing import Any

from ragx.corpus.extract.office.numbering import format_number
from ragx.corpus.extract.office.package import attribute, local

_KINDS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}


class Styles:
    """The styles in the parts of a file."""

    def __init__(self, *roots: Any) -> None:
        """Args: `roots`: of the parts; None: the part is missing."""
        self.parents: dict[str, str] = {}
        """For each style the one that it is based on, by name."""
        self._lists: dict[str, dict[int, Any]] = {}
        for root in roots:
            for style in () if root is None else root.iter("{*}style", "{*}list-style"):
                name = attribute(style, "name")
                if local(style) == "style":
                    self.parents[name] = attribute(style, "parent-style-name")
                else:
                    levels = {attribute(level, "level"): level for level in style if local(level) != ""}
                    self._lists[name] = {int(number): level for number, level in levels.items() if number.isdecimal()}

    def label(self, style: str, depth: int, count: int) -> str:
        """What stands before the `count`-th item of a list, at a depth from 1."""
        level = self._lists.get(style, {}).get(depth)
        if level is None or local(level) != "list-level-style-number":
            return "- "
        kind = _KINDS.get(attribute(level, "num-format"))
        if kind is None:
            return ""
        start = attribute(level, "start-value", "1")
        number = format_number(count - 1 + (int(start) if re.fullmatch(r"\d{1,6}", start) else 1), kind)
        return f"{attribute(level, 'num-prefix')}{number}{attribute(level, 'num-suffix')} "
