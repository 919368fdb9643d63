"""What the parser of a format makes of a file: text with headings and pages, metadata, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field

from ragx.corpus.document import Heading, normalise

CELL_SEPARATOR = " | "
"""Between the cells of a table's row, which is a line."""
REPEATED_CHARS = 100
"""A cell that is merged over several rows is repeated in each if its text is not longer."""

_CONTROL = dict.fromkeys([*range(9), 11, *range(14, 32), 127], " ") | {12: "\n", 13: "\n"}
"""Control characters that a file may hold in its text. A form feed marks a new page in ragx's texts alone."""


class UnreadableError(Exception):
    """The message is the reason why the file is skipped."""


@dataclass(slots=True)
class Parsed:
    """A document of a file. `text` is clean (see `clean`), or comes from a `TextBuilder`."""

    text: str
    title: str = ""
    """Empty: the name of the file."""
    headings: list[Heading] = field(default_factory=list)
    paged: bool = False
    """Form feeds in the text begin new pages."""
    metadata: dict[str, object] = field(default_factory=dict)
    """Values are text, numbers, booleans, or lists of these."""
    missing: list[str] = field(default_factory=list)
    """One line each: what of the file could not be read, such as "pages 2-4 have no text"."""
    name: str = ""
    """Tells the documents of one file apart; empty if the file is one document."""
    attached: list[tuple[str, str]] = field(default_factory=list)
    """Names and paths of files that the document brings, to be parsed as documents of their own."""


def clean(text: str) -> str:
    """`text` with line feeds as line ends, without other control characters, normalised (NFC)."""
    return normalise(text.replace("\r\n", "\n").translate(_CONTROL))


class TextBuilder:
    """Joins blocks of text, and notes where headings and pages begin."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self._parts: list[str] = []
        self._length = 0
        self._new_pages = 0

    def add(self, text: str, separator: str = "\n\n") -> None:
        """Append a block, after `separator` unless it is the first. Blank blocks are dropped; indentation is kept."""
        block = clean(text).rstrip().lstrip("\n")
        if not block.strip():
            return
        if self._new_pages:
            separator = ("\n" if self._parts else "") + "\f" * self._new_pages
            self._new_pages = 0
        elif not self._parts:
            separator = ""
        self._parts += [separator, block]
        self._length += len(separator) + len(block)

    def heading(self, text: str, level: int, separator: str = "\n\n") -> None:
        """Append a heading of a level from 1."""
        line = " ".join(clean(text).split())
        self.add(line, separator)
        if line:
            self.headings.append(Heading(self._length - len(line), level, line))

    def add_page(self, page: Parsed) -> None:
        """Append the text of another document, with its headings."""
        if page.text.strip():
            self.add(page.text)
            start = self._length - len(page.text.rstrip().lstrip("\n"))
            self.headings += [Heading(start + heading.start, heading.level, heading.text) for heading in page.headings]

    def page(self) -> None:
        """Begin the second and each further page."""
        self._new_pages += 1

    @property
    def text(self) -> str:
        """The blocks so far."""
        return "".join(self._parts)

    def __len__(self) -> int:
        """The number of characters so far."""
        return self._length
