"""Electronic books (EPUB 2 and 3): the chapters in reading order."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ragx.corpus.extract.html import decode, parse_markup
from ragx.corpus.extract.office.package import Package, child, local
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_FONT_METHODS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
_METADATA = {"author": "creator", "language": "language", "date": "date", "publisher": "publisher"}


def parse(path: Path) -> Parsed:
    """The text of all chapters.

    Raises:
        UnreadableError: the file is not an EPUB book, is damaged or copy-protected, or unpacks to more than the limit.
    """
    with Package(path, "an EPUB book") as package:
        rootfile = next(_xml(package, _CONTAINER).iter("{*}rootfile"), None)
        name = unquote(rootfile.get("full-path", "")) if rootfile is not None else ""
        if _ENCRYPTION in package and _is_protected(_xml(package, _ENCRYPTION)):
            raise UnreadableError("is copy-protected (DRM)")
        book = _xml(package, name)
        return _read(package, book, posixpath.dirname(name))


def _xml(package: Package, name: str) -> Any:
    """The root element of a part. Books declare the document types of their parts, whose entities stay as they are."""
    from lxml.etree import XMLParser, XMLSyntaxError, fromstring

    parser = XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
    try:
        return fromstring(package.read(name), parser)
    except XMLSyntaxError as error:
        raise UnreadableError(f"is damaged: {name}: {error}") from None


def _is_protected(encryption: Any) -> bool:
    methods = (method.get("Algorithm", "") for method in encryption.iter("{*}EncryptionMethod"))
    return any(method not in _FONT_METHODS for method in methods)


def _read(package: Package, book: Any, folder: str) -> Parsed:
    text = TextBuilder()
    missing = []
    items = {item.get("id"): item for item in book.iter("{*}item")}
    titles = _chapter_titles(package, items, folder)
    read = set()
    for reference in book.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in _PAGES or "nav" in (item.get("properties") or "").split():
            continue
        name = _name(folder, item.get("href", ""))
        if name in read:
            continue
        read.add(name)
        if name not in package:
            missing.append(f"chapter {name} is missing")
            continue
        decoded = decode(package.read(name))
        page = parse_markup(decoded.text, whole=True)
        if page.text and not page.headings and name in titles:
            text.heading(titles[name], 1)
        text.add_page(page)
        missing += [f"chapter {name}: {reason}" for reason in (*decoded.notices, *page.missing)]
    title, metadata = _properties(child(book, "metadata"))
    return Parsed(text.text, title, text.headings, metadata=metadata, missing=missing)


def _properties(element: Any) -> tuple[str, dict[str, object]]:
    found: dict[str, list[str]] = {}
    for field in () if element is None else element:
        if value := " ".join("".join(field.itertext()).split()):
            found.setdefault(local(field), []).append(value)
    metadata: dict[str, object] = {key: ", ".join(found[name][:20]) for key, name in _METADATA.items() if name in found}
    return found.get("title", [""])[0], metadata


def _chapter_titles(package: Package, items: dict[str, Any], folder: str) -> dict[str, str]:
    """For each page, the first entry of the table of contents that names it."""
    titles: dict[str, str] = {}
    for item in items.values():
        name = _name(folder, item.get("href", ""))
        if name not in package:
            continue
        entries: list[tuple[str, str]] = []
        if item.get("media-type") == "application/x-dtbncx+xml":
            for point in _xml(package, name).iter("{*}navPoint"):
                label, content = child(point, "navLabel"), child(point, "content")
                if label is not None and content is not None:
                    entries.append((content.get("src", ""), "".join(label.itertext())))
        elif "nav" in (item.get("properties") or "").split():
            entries = [(link.get("href", ""), "".join(link.itertext())) for link in _xml(package, name).iter("{*}a")]
        for target, label in entries:
            titles.setdefault(_name(posixpath.dirname(name), target), " ".join(label.split()))
    return titles


def _name(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))
