"""Stream the articles of a MediaWiki XML dump."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.corpus.document import Skipped, one_line
from ragx.corpus.wiki.wikitext import MEDIA_NAMESPACES
from ragx.util.compressed import UNREADABLE, open_bytes

if TYPE_CHECKING:
    from lxml import etree

_REDIRECT = re.compile(r"\s*#\s*redirect\b", re.IGNORECASE)
_MEDIA_KEYS = {"-2", "6", "14"}
"""Namespace numbers of media, files and categories in all wikis; their names depend on the language."""


@dataclass(frozen=True, slots=True)
class Page:
    """An article in wiki markup."""

    title: str
    wikitext: str
    media_namespaces: list[str]


def read_pages(path: Path) -> Iterator[Page | Skipped]:
    """The articles of a dump. Only XML's predefined entities are resolved, and no other files are read."""
    from lxml import etree

    media = set(MEDIA_NAMESPACES)
    title = ""
    try:
        with open_bytes(path) as file:
            events = etree.iterparse(
                file,
                tag=("{*}page", "{*}namespace"),
                resolve_entities=False,
                load_dtd=False,
                no_network=True,
                remove_comments=True,
                remove_pis=True,
            )
            for _, element in events:
                if etree.QName(element).localname == "namespace":
                    if element.get("key") in _MEDIA_KEYS and element.text:
                        media.add(element.text.lower())
                    continue
                title = element.findtext("{*}title") or ""
                wikitext = _article(element)
                _release(element)
                if wikitext is not None:
                    yield Page(title, wikitext, sorted(media))
    except (etree.XMLSyntaxError, *UNREADABLE) as error:
        where = f" after the page {title!r}" if title else ""
        yield Skipped(str(path), f"cannot be read{where}: {one_line(str(error))}", unreadable=True)


def _article(page: etree._Element) -> str | None:
    """The wikitext of a page's last revision, or None if it is not an article."""
    if page.findtext("{*}ns", "0") != "0" or page.find("{*}redirect") is not None:
        return None
    revisions = page.findall("{*}revision")
    if not revisions or revisions[-1].findtext("{*}model", "wikitext") != "wikitext":
        return None
    text = revisions[-1].find("{*}text")
    wikitext = "" if text is None else "".join(text.itertext())
    return None if _REDIRECT.match(wikitext) else wikitext


def _release(page: etree._Element) -> None:
    """Free the XML tree of the pages read so far."""
    page.clear()
    while page.getprevious() is not None:
        del page.getparent()[0]
