"""Convert MediaWiki markup to plain text that reads like the rendered page.

References, tables, galleries, images, categories, and templates that `templates.py` does not know are dropped.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from ragx.corpus.wiki.templates import superscript, template_text

if TYPE_CHECKING:
    from mwparserfromhell.nodes import Node, Tag, Template, Wikilink
    from mwparserfromhell.wikicode import Wikicode

MEDIA_NAMESPACES = frozenset({"file", "image", "media", "category"})
"""Links to these show a picture or nothing. Wikis in other languages have additional names for them."""

_DROPPED_TAGS = frozenset(
    {"ref", "references", "gallery", "table", "timeline", "imagemap", "score", "style", "script", "templatestyles"}
    | {"includeonly", "graph", "mapframe", "hiero", "indicator"}
)
_VERBATIM_TAGS = frozenset({"math", "chem", "nowiki", "pre", "source", "syntaxhighlight"})
_BLOCK_TAGS = frozenset({"p", "div", "blockquote", "center", "poem", "pre", "source", "syntaxhighlight", "ul", "ol"})
_HEADING = "\x01"
"""Marks the line of a heading, once per level; it cannot occur in XML."""


def plain_text(wikitext: str, media_namespaces: frozenset[str] = MEDIA_NAMESPACES) -> str:
    """The text of a page: one line per paragraph, list item or heading, with empty lines between paragraphs.

    `media_namespaces`: lower-case names of the namespaces whose links are dropped.

    Raises:
        mwparserfromhell.parser.ParserError: the markup cannot be parsed.
    """
    import mwparserfromhell

    # quotes (bold, italics) are stripped as text, because unbalanced ones would hide other markup
    code = mwparserfromhell.parse(wikitext.replace(_HEADING, ""), skip_style_tags=True)
    return _tidy(_render(code, media_namespaces))


def _render(code: Wikicode | None, media: frozenset[str]) -> str:
    return "".join(_render_node(node, media) for node in code.nodes) if code else ""


def _render_node(node: Node, media: frozenset[str]) -> str:
    from mwparserfromhell import nodes

    match node:
        case nodes.Text():
            return re.sub(r"'{2,}|__[A-Z]+__", "", node.value)
        case nodes.Wikilink():
            return _link(node, media)
        case nodes.Template():
            return _template(node, media)
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


def _template(template: Template, media: frozenset[str]) -> str:
    values: list[str] = []
    named: dict[str, str] = {}
    for param in template.params:
        value = _render(param.value, media)
        if param.showkey:
            named[str(param.name).strip().lower()] = value.strip()
        else:
            values.append(value)
    return template_text(_render(template.name, media), values, named)


def _tag(tag: Tag, media: frozenset[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return ""
    if name == "br":
        return "\n"
    text = unescape(str(tag.contents or "")) if name in _VERBATIM_TAGS else _render(tag.contents, media)
    if name == "sup":
        return superscript(text)
    return f"\n{text}\n" if name in _BLOCK_TAGS else text


def _tidy(text: str) -> str:
    text = re.sub(r"[^\S\n]+", " ", text)
    # remove leftovers of dropped templates and references: "( ; from Latin)", "word ."
    text = re.sub(r"\(\s*[;,:][\s;,:]*", "(", text)
    text = re.sub(r"(?<![\s;,:])[\s;,:]*[;,:]\s*\)", ")", text)
    text = re.sub(r" ?\( *\)", "", text)
    text = re.sub(r" +(?=[,.;:)](?:\s|$))", "", text)
    lines = [line.strip() for line in text.split("\n")]
    # remove markup of tables opened and closed by templates, and list items with only dropped markup
    lines = ["" if re.match(r"\{\||\|", line) or not re.search(r"\w", line) else line for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_without_empty_sections(lines))).strip()


def _without_empty_sections(lines: list[str]) -> list[str]:
    """Unmark headings, and drop those without text before the next heading of the same or a higher level."""
    kept: list[str] = []
    next_level = 1
    for line in reversed(lines):
        level = len(line) - len(line.lstrip(_HEADING))
        if not level:
            kept.append(line)
            if line:
                next_level = 7
        elif level < next_level:
            kept.append(line.lstrip(_HEADING).strip())
            next_level = level
    return kept[::-1]
