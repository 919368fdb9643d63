"""PowerPoint presentations (.pptx, .pptm, .ppsx, .ppsm, .potx), a page a slide (PresentationML, ECMA-376 part 1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragx.corpus.extract.office.comment import slide_comments
from ragx.corpus.extract.office.drawing import body_text, paragraph_text, related_text, table_rows
from ragx.corpus.extract.office.package import Package, attribute, child, description, local
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError
from ragx.util.text import counted

_TITLES = ("title", "ctrTitle")
_LISTS = ("", "body", "obj")
"""Placeholders whose paragraphs have bullets unless they say otherwise."""


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text of all slides: titles as headings, lists, tables, charts, SmartArt and the speaker's notes.

    Raises:
        UnreadableError: it is no presentation, damaged, encrypted, or unpacks to more than the limit.
    """
    with Package(path, "a PowerPoint presentation (.pptx)") as package:
        presentation = package.main("ppt/presentation.xml")
        relations = package.relations(presentation)
        text = TextBuilder()
        footers: set[str] = set()
        damaged: list[int] = []
        pictures: list[int] = []
        objects, reason = 0, ""
        for number, slide in enumerate(package.xml(presentation).iterfind("{*}sldIdLst/{*}sldId"), 1):
            if number > 1:
                text.page()
            part = next((relations[id][1] for id in slide.values() if id in relations), "")
            try:
                root = package.xml(part)
            except UnreadableError as error:
                damaged.append(number)
                reason = reason or str(error)
                continue
            before = len(text)
            for shape in _shapes(root):
                objects += shape.find(".//{*}oleObj") is not None
                _write_shape(package, part, shape, text, footers)
            for notes in package.related(part, "notesSlide"):
                _write_notes(package.xml(notes), text)
            for comment in slide_comments(package, presentation, part) if comments else ():
                text.add(comment)
            if len(text) == before and root.find(".//{*}pic") is not None:
                pictures.append(number)
        missing = [
            f"{_slides(damaged)} could not be read; the first {reason}" if damaged else "",
            f"{_slides(pictures)}: only pictures, no text" if pictures else "",
            f"{counted(objects, 'embedded object')} could not be read" if objects else "",
        ]
        title, metadata = package.properties()
        first = next((heading.text for heading in text.headings), "")
        return Parsed(
            text.text, title or first, text.headings, paged=True, metadata=metadata, missing=[*filter(None, missing)]
        )


def _slides(numbers: list[int]) -> str:
    """Such as "slides 2-4, 7"."""
    found = set(numbers)
    starts = [number for number in numbers if number - 1 not in found]
    ends = [number for number in numbers if number + 1 not in found]
    ranges = (str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
    return f"slide{'s' if len(numbers) > 1 else ''} {', '.join(ranges)}"


def _shapes(container: Any) -> Iterator[Any]:
    """The shapes, tables, charts and pictures of a slide, also those in groups, in the order of reading."""
    for element in container:
        match local(element):
            case "sp" | "graphicFrame" | "pic" | "cxnSp":
                yield element
            case "AlternateContent":
                yield from next(filter(None, (list(_shapes(choice)) for choice in element)), [])
            case "cSld" | "spTree" | "grpSp" | "Choice" | "Fallback":
                yield from _shapes(element)


def _write_shape(package: Package, part: str, shape: Any, text: TextBuilder, footers: set[str]) -> None:
    placeholder = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    type = "none" if placeholder is None else attribute(placeholder, "type")
    match local(shape):
        case "graphicFrame":
            for table in shape.iter("{*}tbl"):
                text.add("\n".join(table_rows(table)))
            for related in related_text(package, part, shape):
                text.add(related)
        case "pic":
            text.add(description(shape.find("{*}nvPicPr/{*}cNvPr")))
    body = shape.find("{*}txBody")
    if body is None or type == "sldNum":
        return
    if type in _TITLES:
        text.heading(body_text(body), 1)
    elif type in ("ftr", "dt", "hdr"):
        if (footer := body_text(body)) not in footers:
            footers.add(footer)
            text.add(footer)
    else:
        text.add("\n".join(_list_lines(body, type in _LISTS)))


def _list_lines(body: Any, bullets: bool) -> Iterator[str]:
    for paragraph in body.iterfind("{*}p"):
        text = paragraph_text(paragraph).strip()
        if not text:
            continue
        properties = child(paragraph, "pPr")
        own = {local(element) for element in properties} if properties is not None else set()
        listed = bool(own & {"buChar", "buAutoNum", "buBlip"}) or (bullets and "buNone" not in own)
        level = attribute(properties, "lvl") if properties is not None else ""
        indent = "  " * int(level) if re.fullmatch("[0-8]", level) else ""
        yield f"{indent}- {text}" if listed else text


def _write_notes(root: Any, text: TextBuilder) -> None:
    for shape in _shapes(root):
        placeholder, body = shape.find("{*}nvSpPr/{*}nvPr/{*}ph"), shape.find("{*}txBody")
        is_note = placeholder is not None and attribute(placeholder, "type") == "body"
        if is_note and body is not None and (note := body_text(body)):
            text.add(f"Notes: {note}")
