"""MediaWiki markup -> plain text that reads like the rendered page, with its headings.

Each row of a table is a line. References, galleries, images, categories and some templates are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import unescape
from typing import TYPE_CHECKING

from ragx.corpus.document import Heading, normalise
from ragx.corpus.wiki.templates import superscript, template_text

if TYPE_CHECKING:
    from mwparserfromhell.nodes import Node, Tag, Template, Wikilink
    from mwparserfromhell.wikicode import Wikicode

MEDIA_NAMESPACES = frozenset({"file", "image", "media", "category"})
"""Links to these show a picture or nothing. Wikis in other languages have additional names for them."""

_DROPPED_TAGS = frozenset(
    {"ref", "references", "gallery", "timeline", "imagemap", "score", "style", "script", "templatestyles"}
    | {"includeonly", "graph", "mapframe", "hiero", "indicator"}
)
_VERBATIM_TAGS = frozenset({"math", "chem", "nowiki", "pre", "source", "syntaxhighlight"})
_BLOCK_TAGS = frozenset({"p", "div", "blockquote", "center", "poem", "pre", "source", "syntaxhighlight", "ul", "ol"})
_HEADING = "\ue000"
"""Starts the line of a heading, once a level: a character for private use."""
_CELL_SEPARATOR = " | "
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NEIGHBOURS = 6
"""Nodes on either side of a template that are searched for text on the same line."""


def parse_wikitext(wikitext: str, media_namespaces: frozenset[str] = MEDIA_NAMESPACES) -> tuple[str, list[Heading]]:
    """The text of a page and its headings: one line per paragraph, list item, row or heading, empty lines between
    paragraphs.

    `media_namespaces`: lower-case names of the namespaces whose links are dropped.

    Raises:
        mwparserfromhell.parser.ParserError: the markup cannot be parsed.
    """
    import mwparserfromhell

    # quotes (bold, italics) are stripped as text, because unbalanced ones would hide other markup
    code = mwparserfromhell.parse(wikitext.replace(_HEADING, ""), skip_style_tags=True)
    return _without_marks(_tidy(normalise(_CONTROL.sub("", _render(code, media_namespaces, top=True)))))


def _render(code: Wikicode | None, media: frozenset[str], *, top: bool = False) -> str:
    """The text of nodes. `top`: they are the page's own, whose templates may stand alone on a line."""
    from mwparserfromhell.nodes import Template

    if not code:
        return ""
    nodes = list(code.nodes)
    return "".join(
        _template(node, media, alone=top and _stands_alone(nodes, position))
        if isinstance(node, Template)
        else _render_node(node, media)
        for position, node in enumerate(nodes)
    )


def _stands_alone(nodes: list[Node], position: int) -> bool:
    """Whether a template shares its line with neither text nor the mark of a list item."""
    before = reversed(nodes[max(0, position - _NEIGHBOURS) : position])
    after = nodes[position + 1 : position + 1 + _NEIGHBOURS]
    return _line_is_empty(before, from_end=True) and _line_is_empty(after, from_end=False)


def _line_is_empty(nodes: Iterable[Node], *, from_end: bool) -> bool:
    from mwparserfromhell.nodes import Comment, Template, Text

    for node in nodes:
        if isinstance(node, Text):
            text = node.value.strip(" \t")
            if text:
                return text.endswith("\n") if from_end else text.startswith("\n")
        elif not isinstance(node, (Template, Comment)):
            return False
    return True


def _render_node(node: Node, media: frozenset[str]) -> str:
    from mwparserfromhell import nodes

    match node:
        case nodes.Text():
            return re.sub(r"'{2,}|__[A-Z]+__", "", node.value)
        case nodes.Wikilink():
            return _link(node, media)
        case nodes.Tag():
            return _tag(node, media)
        case nodes.Heading():
            return f"\n\n{_HEADING * node.level}{_render(node.title, media).strip()}"
        case nodes.ExternalLink():
            return _render(node.title, media) if node.brackets else str(node.url)
        case nodes.HTMLEntity():
            return node.normalize().replace(_HEADING, "")
    return ""  # comments and template arguments


def _link(link: Wikilink, media: frozenset[str]) -> str:
    target = str(link.title).strip()
    namespace, colon, _ = target.partition(":")
    if colon and namespace.strip().lower() in media:
        return ""
    label = _render(link.text, media)
    if not label and re.fullmatch(r"[a-z]{2,3}(-[a-z]+)*", namespace) and colon:
        return ""  # the page in another language
    return label or _render(link.title, media).strip().lstrip(":#").replace("_", " ")


def _template(template: Template, media: frozenset[str], *, alone: bool) -> str:
    values: list[str] = []
    named: dict[str, str] = {}
    for param in template.params:
        value = _render(param.value, media)
        if param.showkey:
            named[str(param.name).strip().lower()] = value.strip()
        else:
            values.append(value)
    return template_text(_render(template.name, media), values, named, alone=alone)


def _tag(tag: Tag, media: frozenset[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return ""
    if name == "br":
        return "\n"
    if name == "table":
        return _table(tag, media)
    text = unescape(str(tag.contents or "")) if name in _VERBATIM_TAGS else _render(tag.contents, media)
    if name == "sup":
        return superscript(text)
    return f"\n{text}\n" if name in _BLOCK_TAGS else text


def _table(table: Tag, media: frozenset[str]) -> str:
    """The rows of a table; cells before the first row are a row as well."""
    rows: list[str] = []
    cells: list[str] = []
    for name, tag in _tags(table):
        if name == "caption" or (name == "td" and str(tag.contents).startswith("+")):
            rows.append(_cell(tag, media).removeprefix("+").rpartition("|")[2].strip())
        elif name in ("td", "th"):
            cells.append(_cell(tag, media))
        elif name in ("tr", "thead", "tbody"):
            rows += [_row(cells), *_rows(tag, media)]
            cells = []
    return "\n\n" + "\n".join(filter(None, [*rows, _row(cells)])) + "\n\n"


def _rows(tag: Tag, media: frozenset[str]) -> list[str]:
    """The row of a `tr`, or the rows of a part of a table."""
    tags = list(_tags(tag))
    if any(name == "tr" for name, _ in tags):
        return [row for _, inner in tags for row in _rows(inner, media)]
    return [_row([_cell(cell, media) for name, cell in tags if name in ("td", "th")])]


def _tags(tag: Tag) -> Iterator[tuple[str, Tag]]:
    """The tags in a tag, with their names in lower case."""
    from mwparserfromhell.nodes import Tag

    for node in tag.contents.nodes if tag.contents else ():
        if isinstance(node, Tag):
            yield str(node.tag).strip().lower(), node


def _cell(cell: Tag, media: frozenset[str]) -> str:
    return " ".join(_render(cell.contents, media).replace(_HEADING, "").split())


def _row(cells: list[str]) -> str:
    return _CELL_SEPARATOR.join(cells).strip(_CELL_SEPARATOR)


def _tidy(text: str) -> str:
    text = re.sub(r"[^\S\n]+", " ", text)
    # remove leftovers of dropped templates and references: "( ; from Latin)", "word ."
    text = re.sub(r"\(\s*[;,:][\s;,:]*", "(", text)
    text = re.sub(r"(?<![\s;,:])[\s;,:]*[;,:]\s*\)", ")", text)
    text = re.sub(r" ?\( *\)", "", text)
    text = re.sub(r" +(?=[,.;:)](?:\s|$))", "", text)
    lines = [line.strip() for line in text.split("\n")]
    # tables that were opened and closed by templates, and list items that held only dropped markup
    lines = [_loose_row(line) if line.startswith(("|", "{|")) else line for line in lines]
    lines = [line if re.search(r"\w", line) else "" for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_without_empty_sections(lines))).strip()


def _loose_row(line: str) -> str:
    """The text of a line of a table whose markup was not recognised as one."""
    if line.startswith(("{|", "|-", "|}")):
        return ""
    cells = [cell.rpartition("|")[2].strip() for cell in line[1:].removeprefix("+").split("||")]
    return _row(cells)


def _without_empty_sections(lines: list[str]) -> list[str]:
    """Headings go if no text follows before the next heading of the same or a higher level."""
    kept: list[str] = []
    next_level = 1
    for line in reversed(lines):
        level = len(line) - len(line.lstrip(_HEADING))
        if not level:
            kept.append(line)
            if line:
                next_level = 7
        elif level < next_level:
            kept.append(_HEADING * level + line.lstrip(_HEADING).strip())
            next_level = level
    return kept[::-1]


def _without_marks(text: str) -> tuple[str, list[Heading]]:
    """The text without heading markers, and the headings with their offsets and levels."""
    lines = []
    headings = []
    start = 0
    for line in text.split("\n"):
        bare = line.lstrip(_HEADING)
        if bare != line:
            headings.append(Heading(start, len(line) - len(bare), bare))
        lines.append(bare)
        start += len(bare) + 1
    return "\n".join(lines), headings
