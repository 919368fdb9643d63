"""XML files: text with markup (DocBook, JATS, TEI) as text with its titles as headings; others, a value a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.entities import html5
from pathlib import Path
from typing import Any

from ragx.corpus.extract.office.package import PARSER_OPTIONS, local
from ragx.corpus.extract.parsed import CELL_SEPARATOR, Parsed, TextBuilder, UnreadableError

_OPTIONS = {"remove_comments": True, "remove_pis": True, **PARSER_OPTIONS}
_TITLES = ("title", "article-title", "head")
_ROWS = ("tr", "row")
_HTML_ENTITY = re.compile(rb"&([A-Za-z]\w{1,31});")
_HTML = re.compile(r"</\w|<\w+\s*/?>")
_BLOCK = re.compile(r"(?=</?(?:p|div|br|li|h[1-6]|t[dhr])\b)", re.IGNORECASE)
_TEXT_SHARE = 0.2
"""Of a text with markup, at least this share of the characters is in elements that also have children."""
_MAX_NAMES = 3


def parse(path: Path) -> Parsed:
    """The text; the title is the first one that the file states.

    Raises:
        UnreadableError: it is not valid XML.
    """
    from lxml import etree

    root, missing = _root(_HTML_ENTITY.sub(_reference, path.read_bytes()))
    unknown = sorted({entity.name for entity in root.iter(etree.Entity)})
    etree.strip_elements(root, etree.Entity, with_tail=False)
    text = TextBuilder()
    write = _write_text if _is_text(root) else _write_values
    write(root, text)
    if unknown:
        names = ", ".join(f"&{name};" for name in unknown[:_MAX_NAMES])
        missing.append(f"entities that XML does not define are left out: {names}{' …' * (len(unknown) > _MAX_NAMES)}")
    titles = (_line(element) for element in root.iter(*(f"{{*}}{name}" for name in _TITLES)))
    return Parsed(text.text, next(filter(None, titles), ""), text.headings, missing=missing)


def _root(data: bytes) -> tuple[Any, list[str]]:
    """The root element, of a damaged file what can be read, and what the damage is."""
    from lxml import etree

    try:
        return etree.fromstring(data, etree.XMLParser(**_OPTIONS)), []
    except etree.XMLSyntaxError as error:
        reason = error.msg
    root = etree.fromstring(data, etree.XMLParser(recover=True, **_OPTIONS))
    if root is None:
        raise UnreadableError(f"is not valid XML: {reason}")
    return root, [f"is not valid XML, so text may be missing: {reason}"]


def _reference(entity: re.Match[bytes]) -> bytes:
    """The characters of an entity of HTML, which XML does not know."""
    name = entity[1].decode()
    text = "" if name in ("amp", "lt", "gt", "quot", "apos") else html5.get(f"{name};", "")
    return "".join(f"&#{ord(character)};" for character in text).encode() or entity[0]


def _is_text(root: Any) -> bool:
    """Whether much of the text stands in elements that also have children."""
    mixed = total = 0
    for element in root.iter():
        own = len(_own(element))
        total += own
        mixed += own if len(element) else 0
    return mixed > _TEXT_SHARE * total


def _own(element: Any) -> str:
    """The text of an element without that of its children."""
    return "".join(part.strip() for part in (element.text or "", *(child.tail or "" for child in element)))


def _line(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def _without_html(line: str) -> str:
    """The text of a value that is itself HTML, as in feeds."""
    from lxml.html import fromstring

    if not _HTML.search(line):
        return line
    root = fromstring(f"<div>{_BLOCK.sub(' ', line)}</div>")
    return " ".join("".join(root.itertext()).split())


def _write_text(root: Any, text: TextBuilder) -> None:
    for element, level in _blocks(root):
        if local(element) in _ROWS:
            text.add(CELL_SEPARATOR.join(map(_line, element)), "\n")
        elif local(element) in _TITLES:
            text.heading(_line(element), level)
        else:
            text.add(_line(element))


def _blocks(root: Any) -> Iterator[tuple[Any, int]]:
    """The outermost elements with text of their own, and how deep they are."""
    stack = [(root, 1)]
    while stack:
        element, level = stack.pop()
        if _own(element) or not len(element) or local(element) in _ROWS:
            yield element, max(1, level - 1)
        else:
            stack += [(child, level + 1) for child in reversed(element)]


def _write_values(root: Any, text: TextBuilder) -> None:
    """A line for each value: "name: value". Attributes follow the name of their element."""
    for element in root.iter():
        name = local(element)
        attributes = "; ".join(f"{key.rpartition('}')[2]}={value}" for key, value in element.items())
        own = _own(element) if len(element) else _without_html(_line(element))
        if attributes or own:
            head = f"{name} ({attributes})" if attributes else name
            text.add(f"{head}: {' '.join(own.split())}" if own else head, "\n")
        elif len(element) and element is not root:
            text.add(name, "\n\n")
