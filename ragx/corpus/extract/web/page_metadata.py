"""What an HTML page says about itself: title, author, description, date and language."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ragx.corpus.document import one_line

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_META = {
    "author": ("author", "article:author", "dc.creator", "dcterms.creator", "citation_author", "parsely-author"),
    "description": ("description", "og:description", "dc.description", "dcterms.description", "twitter:description"),
    "date": (
        *("article:published_time", "date", "dc.date", "dcterms.date", "dcterms.created", "dc.date.issued"),
        *("citation_publication_date", "citation_date", "datepublished", "pubdate", "parsely-pub-date", "created"),
    ),
    "language": ("language", "content-language", "dc.language", "dcterms.language", "og:locale"),
}
"""Names of `meta` elements, best first."""
_JSON = {"author": "author", "description": "description", "date": "datePublished", "language": "inLanguage"}
_NO_TITLE = re.compile(r"(untitled|no title|new page|home|index|document|title)?( document| \d+)?", re.IGNORECASE)
_MAX_JSON_CHARS = 200_000


def page_title(page: Element) -> str:
    """The `title` element, or the first heading where it is missing or says nothing."""
    titles = (element for tag in ("title", "h1") for element in page.iter(tag) if not _within_svg(element))
    found = (one_line("".join(element.itertext()), 1000) for element in titles)
    return next((title for title in found if not _NO_TITLE.fullmatch(title)), "")


def _within_svg(element: Element) -> bool:
    return next(element.iterancestors("svg"), None) is not None


def page_metadata(page: Element) -> dict[str, object]:
    """Author, description, date and language, where the page names them."""
    metas: dict[str, str] = {}
    for meta in page.iter("meta"):
        name = next(filter(None, map(meta.get, ("name", "property", "http-equiv", "itemprop"))), "").lower()
        content = one_line(meta.get("content") or "", 1000)
        if content and not (name.endswith("author") and content.startswith(("http:", "https:"))):
            metas.setdefault(name, content)
    linked = _linked_data(page)
    found = {
        field: next((metas[name] for name in names if name in metas), linked.get(field, ""))
        for field, names in _META.items()
    }
    found["language"] = page.get("lang") or page.get("xml:lang") or found["language"]
    if not found["date"]:
        times = page.xpath(".//time[@datetime][@pubdate or contains(@itemprop, 'datePublished')]/@datetime")
        found["date"] = one_line(str(times[0])) if times else ""
    return {field: value for field, value in found.items() if value}


def _linked_data(page: Element) -> dict[str, str]:
    """The fields of the first article in the page's JSON-LD."""
    for script in page.iter("script"):
        if script.get("type", "").lower() != "application/ld+json" or len(script.text or "") > _MAX_JSON_CHARS:
            continue
        try:
            data: Any = json.loads(script.text or "")
        except (ValueError, RecursionError):
            continue
        data = data.get("@graph", data) if isinstance(data, dict) else data
        for item in data if isinstance(data, list) else [data]:
            if isinstance(item, dict) and "datePublished" in item:
                found = {field: _name(item.get(key)) for field, key in _JSON.items()}
                return {field: value for field, value in found.items() if value}
    return {}


def _name(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_name, value[:20])))
    if isinstance(value, dict):
        value = value.get("name")
    return one_line(value, 1000) if isinstance(value, str) else ""
