"""Comments in office files, which are read on demand."""

from __future__ import annotations

from collections.abc import Iterator

from ragx.corpus.extract.office.drawing import body_text
from ragx.corpus.extract.office.package import Package, attribute


def comment(author: str, text: str, place: str = "") -> str:
    """A comment as a paragraph of the document. `place`: the name of the cell that it is on."""
    on, by = (f" on {place}" if place else ""), (f" by {author}" if author else "")
    return f"Comment{on}{by}: {' '.join(text.split())}"


def slide_comments(package: Package, presentation: str, slide: str) -> Iterator[str]:
    """The comments on a slide and the replies to them (ECMA-376 part 1, section 19.4; [MS-PPTX] 2.6)."""
    authors = {
        attribute(author, "id"): attribute(author, "name")
        for type in ("commentAuthors", "authors")
        for part in package.related(presentation, type)
        for author in package.xml(part)
    }
    for part in package.related(slide, "comments"):
        for element in package.xml(part).iter("{*}cm", "{*}reply"):
            body = element.find("{*}txBody")
            text = element.findtext("{*}text") or ("" if body is None else body_text(body))
            if text.strip():
                yield comment(authors.get(attribute(element, "authorId"), ""), text)


def sheet_comments(package: Package, workbook: str, sheet: str) -> Iterator[str]:
    """The comments on the cells of a sheet (ECMA-376 part 1, section 18.7; [MS-XLSX] 2.6.205).

    A thread also stands among the plain comments, below a notice for old programs; it is read as a thread alone.
    """
    people = {
        attribute(person, "id"): attribute(person, "displayName")
        for part in package.related(workbook, "person")
        for person in package.xml(part)
    }
    threads = [thread for part in package.related(sheet, "threadedComment") for thread in package.xml(part)]
    for thread in threads:
        author = people.get(attribute(thread, "personId"), "")
        yield comment(author, thread.findtext("{*}text") or "", attribute(thread, "ref"))
    threaded = {attribute(thread, "ref") for thread in threads}
    for part in package.related(sheet, "comments"):
        root = package.xml(part)
        authors = [author.text or "" for author in root.iterfind("{*}authors/{*}author")]
        for element in root.iter("{*}comment"):
            number, place = attribute(element, "authorId"), attribute(element, "ref")
            author = authors[int(number)] if number.isdecimal() and int(number) < len(authors) else ""
            if place not in threaded:
                text = "".join(part.text or "" for part in element.iter("{*}t"))
                yield comment(author, text.removeprefix(f"{author}:"), place)
