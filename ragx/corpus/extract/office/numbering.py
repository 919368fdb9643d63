"""The numbers of lists and headings in Word documents, which stand in no text (ECMA-376 part 1, chapter 17.9)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from ragx.corpus.extract.office.package import attribute, child

_LEVELS = 9
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"))
_ROMAN_UNITS = ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")


class Numbering:
    """The lists of a document, and how far each has counted."""

    def __init__(self, root: Any = None) -> None:
        """Args: `root`: of the numbering part, None if there is none."""
        self._lists: dict[str, tuple[str, dict[int, Any]]] = {}
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0] * _LEVELS)
        if root is None:
            return
        abstract = {attribute(found, "abstractNumId"): _levels(found) for found in root.iterfind("{*}abstractNum")}
        for number in root.iterfind("{*}num"):
            if (link := child(number, "abstractNumId")) is None:
                continue
            shared = attribute(link, "val")
            own = _levels(number, "{*}lvlOverride/{*}lvl")
            starts = number.find("{*}lvlOverride/{*}startOverride") is not None
            id = attribute(number, "numId")
            # lists of one abstract list count on, unless one starts anew
            self._lists[id] = (id if starts or own else f"shared {shared}", abstract.get(shared, {}) | own)

    def label(self, id: str, level: int) -> str:
        """Count one paragraph of list `id` at a level from 0: its number with a space, "- ", or nothing if unknown."""
        if id not in self._lists or not 0 <= level < _LEVELS:
            return "- " if id not in ("", "0") else ""
        key, levels = self._lists[id]
        counts = self._counts[key]
        counts[level] += 1
        counts[level + 1 :] = [0] * (_LEVELS - level - 1)
        kind, pattern, _ = levels.get(level, ("bullet", "", 1))
        if kind == "bullet":
            return "- "
        if kind == "none":
            return ""

        def number(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            kind, _, start = levels.get(place, ("decimal", "", 1))
            return format_number(max(counts[place], 1) + start - 1, kind)

        label = re.sub(r"%([1-9])", number, pattern).strip()
        return f"{label} " if label else ""


def _levels(parent: Any, path: str = "{*}lvl") -> dict[int, tuple[str, str, int]]:
    levels = {}
    for level in parent.iterfind(path):
        number = attribute(level, "ilvl")
        if number.isdecimal():
            value = {tag: _value(level, tag) for tag in ("numFmt", "lvlText", "start")}
            start = int(value["start"]) if re.fullmatch(r"\d{1,6}", value["start"]) else 1
            levels[int(number[:3])] = (value["numFmt"] or "decimal", value["lvlText"], start)
    return levels


def _value(parent: Any, tag: str) -> str:
    found = child(parent, tag)
    return "" if found is None else attribute(found, "val")


def format_number(number: int, kind: str) -> str:
    """A number in a format of WordprocessingML, such as "lowerRoman"; decimal if the format is unknown."""
    match kind:
        case "lowerLetter" | "upperLetter" if number > 0:
            letter = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 10)
        case "lowerRoman" | "upperRoman" if 0 < number < 5000:
            letter = ""
            for value, digits in _ROMAN:
                letter += digits * (number // value)
                number %= value
            letter += _ROMAN_UNITS[number]
        case "decimalZero":
            return f"{number:02}"
        case _:
            return str(number)
    return letter.upper() if kind.startswith("upper") else letter
