"""Styles of paragraphs in Word documents: which are headings, lists or the title (ECMA-376 part 1, chapter 17.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ragx.corpus.extract.office.package import attribute, child, local


@dataclass(frozen=True, slots=True)
class Style:
    """What a style says of a paragraph."""

    level: int = 0
    """Of a heading, from 1; 0 if it is none."""
    list: tuple[str, int] = ("", 0)
    """Id of a numbering and a level from 0."""
    title: bool = False


def read_styles(root: Any) -> dict[str, Style]:
    """The paragraph styles by their ids, with what they inherit."""
    elements = {attribute(style, "styleId"): style for style in (() if root is None else root.iterfind("{*}style"))}
    styles: dict[str, Style] = {"": Style()}

    for id in elements:
        chain: list[str] = []
        while id in elements and id not in styles and id not in chain:
            chain.append(id)
            base = child(elements[id], "basedOn")
            id = "" if base is None else attribute(base, "val")
        style = styles.get(id, Style())
        for id in reversed(chain):
            style = styles[id] = _named(style, elements[id])
    default = next((id for id, style in elements.items() if attribute(style, "default") in ("1", "true")), "")
    styles[""] = styles.get(default, Style())
    return styles


def _named(base: Style, element: Any) -> Style:
    """A style. Word's own have English names in all languages, while their ids are translated."""
    named = child(element, "name")
    name = "" if named is None else attribute(named, "val").casefold()
    heading = re.fullmatch(r"heading ([1-9])", name)
    style = Style(int(heading[1]) if heading else base.level, base.list, name == "title")
    properties = child(element, "pPr")
    return style if properties is None else with_own(style, properties)


def with_own(style: Style, properties: Any) -> Style:
    """`style` with what paragraph properties say themselves."""
    outline = child(properties, "outlineLvl")
    level = style.level
    if outline is not None and (value := attribute(outline, "val")).isdecimal():
        level = int(value[:3]) + 1 if int(value[:3]) < 9 else 0
    id, depth = style.list
    if (numbered := child(properties, "numPr")) is not None:
        for found in numbered:
            value = attribute(found, "val")
            if local(found) == "numId":
                id = value
            elif local(found) == "ilvl" and re.fullmatch("[0-8]", value):
                depth = int(value)
    return Style(level, (id, depth), style.title)
