"""Where in its document a passage begins: below which headings, in which table, on which page."""

from __future__ import annotations

from ragx.corpus.document import Document, Heading
from ragx.corpus.tables import Table, find_tables

HEADING_SEPARATOR = " > "


class Origins:
    """Tells the headings and pages of spans that begin later and later in a document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._tables = find_tables(document.text)
        self._table: Table | None = None
        self._next = 0
        self._path: list[Heading] = []
        self._page, self._counted = 1, 0

    def headings(self, start: int) -> str:
        """The headings above a span, without the document's title; then the header of the table that it begins in."""
        headings = self._document.headings
        while self._next < len(headings) and headings[self._next].start < start:
            heading = headings[self._next]
            self._path = [above for above in self._path if above.level < heading.level] + [heading]
            self._next += 1
        path = self._path
        if self._next < len(headings) and headings[self._next].start == start:  # the span begins with a heading
            path = [above for above in path if above.level < headings[self._next].level]
        titles = (heading.text for heading in path if heading.text != self._document.title)
        return "\n".join(filter(None, (HEADING_SEPARATOR.join(titles), self._header(start))))

    def _header(self, start: int) -> str:
        """The header of the table in which a span begins, unless it begins with the header."""
        if self._table is None or self._table.end <= start:
            self._table = next((table for table in self._tables if table.end > start), None)
        return self._table.header if self._table is not None and self._table.start < start else ""

    def page(self, start: int) -> int:
        """The page on which a span begins; 0 where there are none."""
        if not self._document.paged:
            return 0
        self._page += self._document.text.count("\f", self._counted, start)
        self._counted = start
        return self._page
