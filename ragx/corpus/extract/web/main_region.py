"""Which parts of an HTML page are its main text, and which are navigation, banners, adverts and the like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_NO_TEXT = frozenset(
    {"head", "script", "style", "noscript", "template", "iframe", "object", "embed", "canvas", "audio", "video"}
    | {"map", "button", "input", "select", "datalist", "textarea", "progress", "meter", "dialog", "menu", "rp"}
)
_ROLES = frozenset(
    {"navigation", "banner", "contentinfo", "search", "dialog", "alertdialog", "menu", "menubar", "toolbar"}
)
_CONTAINERS = frozenset(
    [
        "div",
        "ul",
        "ol",
        "table",
        "tr",
        "td",
        "aside",
        "header",
        "footer",
        "form",
        "p",
        "span",
        "a",
        "details",
        "section",
    ]
)
"""Elements that are judged by the words of their class and id."""
_BOILERPLATE = frozenset(
    {"nav", "navbar", "navbox", "navigation", "breadcrumb", "breadcrumbs", "topnav", "docnav", "navheader"}
    | {"navfooter", "menu", "submenu", "sidenav", "pagination", "pager", "prevnext", "prevlink", "rellinks"}
    | {"sphinxsidebar", "related", "relatedposts", "recommended", "recommendations", "backlinks", "teaser"}
    | {"cookie", "cookies", "consent", "gdpr", "newsletter", "subscribe", "signup", "login", "popup", "modal"}
    | {"share", "sharing", "sharedaddy", "social", "ad", "ads", "advert", "advertisement", "sponsored", "promo"}
    | {"footer", "masthead", "noprint", "printfooter", "catlinks", "editsection", "headerlink", "skiplink"}
    | {"linenos", "lineno", "linenumber", "linenumbers", "gutter", "nosearch", "toolbar"}
)
_BOXES = frozenset({"sidebar", "aside", "complementary", "box"})
"""Boxes beside the text are boilerplate if they hold many links."""
_CONTENT = frozenset({"note", "warning", "tip", "caution", "important", "danger", "info", "admonition", "callout"})
_CONTENT |= {"hatnote"}
"""Elements with one of these words are not boilerplate."""
_LINK_BLOCKS = frozenset({"div", "ul", "ol", "table", "tr", "td", "dl"})
_SECTIONS = frozenset({"section", "sect", "sect1", "sect2", "sect3", "sect4", "chapter", "module", "topic"})
"""Elements whose ids come from their headings."""
_NOTES = re.compile(r"note|reference|citation|biblio", re.IGNORECASE)
_COMMENTS = frozenset({"comment", "comments", "answer", "answers", "reply", "replies", "responses", "discussion"})
_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LINK_MARKS = frozenset({"¶", "#", "§", "🔗", "\uf0c1"})

_MOST = 0.5
"""An element with a larger share of the page's text is not boilerplate; if it is named so by its tag, `_NEARLY_ALL`."""
_NEARLY_ALL = 0.9
_MAIN_SHARE = 0.3
"""What `main` must hold of a page's text to count, and `article` of that."""
_ARTICLE_SHARE = 0.6
_BOX_LINKS = 0.3
"""Shares of text in links: in boxes beside the text, and in blocks of navigation."""
_NAVIGATION_LINKS = 0.7
_FORM_SHARE = 0.25
"""A form with a larger share of the page's text is the page."""


class Length(NamedTuple):
    """The length of an element's text."""

    chars: int = 0
    linked: int = 0
    """Of these, in links."""
    elsewhere: int = 0
    """Of these, in links that name no place within a page."""
    links: int = 0
    """Number of such links."""


Lengths = dict["Element", Length]


def main_regions(page: Element, *, whole: bool = False) -> tuple[list[Element], set[Element]]:
    """The elements that hold the main text, in order, and the elements inside that do not belong to it.

    `whole`: only what a browser does not show does not belong to it.
    """
    body = page.find("body")
    if body is None:
        body = page
    dropped = {element for element in body.iter(*_NO_TEXT) if not element.get("type", "").startswith("math/tex")}
    lengths = text_lengths(body, dropped)
    most = _MOST * lengths[body].chars
    for element in body.iter():  # what is hidden at first may be most of the page, which scripts show later
        if ("hidden" in element.attrib or _HIDDEN.search(element.get("style", ""))) and _chars(
            lengths, element
        ) <= most:
            dropped.add(element)
    if whole:
        return [body], dropped
    for element in body.iter():
        limit = most if element.tag not in ("nav", "aside") else _NEARLY_ALL * lengths[body].chars
        if _chars(lengths, element) <= limit and _is_boilerplate(element, lengths, body):
            dropped.add(element)
    lengths = text_lengths(body, dropped)
    main = _largest([*body.iter("main"), *body.xpath(".//*[@role='main']")], lengths)
    if main is None or lengths[main].chars < _MAIN_SHARE * lengths[body].chars:
        main = body
    article = _largest(main.iter("article"), lengths)
    if article is not None and lengths[article].chars >= _ARTICLE_SHARE * lengths[main].chars:
        return _with_title_and_comments(main, article), dropped
    if main is body:
        dropped |= _link_blocks(body, lengths)
    return [main], dropped


def text_lengths(root: Element, dropped: set[Element]) -> Lengths:
    """Lengths without surrounding whitespace; elements within dropped ones have none."""
    from lxml.etree import iterwalk

    lengths: Lengths = {}
    totals = [[0, 0, 0, 0]]
    links = pages = 0
    walk = iterwalk(root, events=("start", "end"))
    for event, element in walk:
        href = element.get("href") if element.tag == "a" else None
        is_link = href is not None
        is_page = href is not None and "#" not in href
        if event == "start":
            if element in dropped:
                totals.append([0, 0, 0, 0])
                walk.skip_subtree()
                continue
            links, pages = links + is_link, pages + is_page
            size = len((element.text or "").strip())
            totals.append([size, size if links else 0, size if pages else 0, int(is_page)])
            continue
        if element not in dropped:
            links, pages = links - is_link, pages - is_page
        own = lengths[element] = Length(*totals.pop())
        tail = len((element.tail or "").strip())
        above = totals[-1]
        above[0] += own.chars + tail
        above[1] += own.linked + (tail if links else 0)
        above[2] += own.elsewhere + (tail if pages else 0)
        above[3] += own.links
    return lengths


def _chars(lengths: Lengths, element: Element) -> int:
    return lengths.get(element, Length()).chars


def _largest(elements: Iterable[Element], lengths: Lengths) -> Element | None:
    return max((element for element in elements if element in lengths), key=lambda e: lengths[e].chars, default=None)


def _is_boilerplate(element: Element, lengths: Lengths, body: Element) -> bool:
    tag = element.tag
    if tag == "nav" or element.get("role") in _ROLES:
        return True
    if tag not in _CONTAINERS:
        return False
    chars, linked, elsewhere, _ = lengths.get(element, Length())
    names = f"{element.get('class', '')} {element.get('id', '')}"
    if tag == "a":
        return (chars <= 1 and "".join(element.itertext()).strip() in _LINK_MARKS) or "headerlink" in names
    if tag == "footer":
        return not _NOTES.search(names) and (elsewhere > chars / 2 or not _within(element, "article", "main"))
    if tag == "header" and not _within(element, "article", "main", "section"):
        return elsewhere > _BOX_LINKS * chars or element.find(".//nav") is not None
    if tag == "form":
        return chars < _FORM_SHARE * lengths[body].chars
    if tag == "aside" and linked > _BOX_LINKS * chars:
        return True
    words = _words(element.get("class", ""))
    if tag != "section" and not words & _SECTIONS:
        words |= _words(element.get("id", ""))
    if words & _CONTENT:
        return False
    return bool(words & _BOILERPLATE) or (bool(words & _BOXES) and linked > _BOX_LINKS * chars)


@lru_cache(10_000)
def _words(names: str) -> frozenset[str]:
    """Lower-case words and names of classes or ids."""
    return frozenset(word.lower() for word in _WORD.findall(names)) | frozenset(names.lower().split())


def _within(element: Element, *tags: str) -> bool:
    return next(element.iterancestors(*tags), None) is not None


def _with_title_and_comments(main: Element, article: Element) -> list[Element]:
    """The article, the headers and titles beside it, and the comments on it."""
    above = set(article.iterancestors())
    kept: list[Element] = []
    done: set[Element] = set()
    for element in main.iter():
        parent = element.getparent()
        if parent in done:
            done.add(element)
        elif element is article or (element not in above and _is_title_or_comments(element)):
            kept.append(element)
            done.add(element)
    return kept


def _is_title_or_comments(element: Element) -> bool:
    if element.tag in ("h1", "header"):
        return True
    names = f"{element.get('class', '')} {element.get('id', '')}"
    return element.tag in ("div", "section", "ol", "ul") and bool(_words(names) & _COMMENTS)


def _link_blocks(body: Element, lengths: Lengths) -> set[Element]:
    """Blocks that are hardly more than links, unless the page is a list of links or a paragraph introduces them."""
    blocks: set[Element] = set()
    chars = 0
    for element in body.iter():
        length = lengths.get(element, Length())
        if element.getparent() in blocks:
            blocks.add(element)
        elif element.tag in _LINK_BLOCKS and length.links > 1 and length.elsewhere > _NAVIGATION_LINKS * length.chars:
            before = element.getprevious()
            if before is None or before.tag != "p" or lengths.get(before, Length()).linked:
                blocks.add(element)
                chars += length.chars
    return blocks if chars <= _MOST * lengths[body].chars else set()
