"""PDF files: pages in reading order, with the outline as headings."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import OCR_PAGES
from ragx.corpus.document import Heading, one_line
from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError, clean
from ragx.corpus.extract.pdf import ocr
from ragx.corpus.extract.pdf.hyphens import join_words
from ragx.corpus.extract.pdf.layout import Line, lines_of
from ragx.corpus.extract.pdf.repeats import without_repeats
from ragx.corpus.extract.pdf.words import Word, annotated_words, drawn_words
from ragx.util.text import counted

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

_MIN_PATHS = 20
"""Drawings on a page without text that may be letters."""
_MAX_DAMAGED = 1000
"""Pages in a row after which a file has no more that can be read, whatever number it states."""
_MAX_HEADINGS = 10_000
_MAX_ATTACHED = 20
"""Attached files that are named."""
_LARGE = 1.15
"""Size of a title in units of the usual size."""
_MAX_TITLE_CHARS = 200
_PLACEHOLDERS = {"anonymous", "unspecified", "untitled", "title", "powerpoint presentation", "slide 1", "document1", ""}
_FILE_NAME = re.compile(r"^microsoft \w+ - |\.[a-z]\w{1,4}$|^[!-~]*[\d_.][!-~]*$|^layout \d+$", re.IGNORECASE)
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?")


def parse(path: Path, ocr_pages: int = OCR_PAGES, working: Callable[[], object] = lambda: None) -> Parsed:
    """The text of all pages.

    Ligatures, the shapes of Arabic letters and words cut at the end of a line are replaced by plain letters and whole
    words, so that the text of a passage is that of the file as a reader would write it down.

    Args:
        path: of the file.
        ocr_pages: pages without text on which it is recognised, at most.
        working: called before the first such page and after each.

    Raises:
        UnreadableError: it is encrypted or damaged, or no page has text.
    """
    document = _opened(path)
    try:
        return _parsed(document, ocr_pages, working)
    finally:
        document.close()


def _opened(path: Path) -> PdfDocument:
    from pypdfium2 import PdfDocument, PdfiumError
    from pypdfium2.raw import FORMTYPE_XFA_FULL, FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY

    path.open("rb").close()  # PDFium's own error does not tell why a file cannot be opened
    try:
        document = PdfDocument(path)
    except PdfiumError as error:
        if error.err_code in (FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY):
            raise UnreadableError("is encrypted: save it without a password") from None
        raise UnreadableError("is not a PDF file, or it is damaged") from None
    if document.get_formtype() == FORMTYPE_XFA_FULL:
        raise UnreadableError("is a dynamic XFA form: print it to a PDF file")
    document.init_forms()
    return document


def _parsed(document: PdfDocument, ocr_pages: int, working: Callable[[], object]) -> Parsed:
    words, notes, empty, damaged = _pages(document)
    kept = without_repeats(words)
    for number, (drawn, rest) in enumerate(zip(words, kept, strict=True), 1):
        if drawn and not rest and number not in empty:  # nothing but a header and a footer
            if _shows_something(document[number - 1]):
                empty.append(number)
            else:
                rest += drawn
    missing = [f"{_ranges(damaged)} no readable content: the file is damaged"] if damaged else []
    missing += _recognise(document, sorted(empty), kept, ocr_pages, working)
    if attached := min(document.count_attachments(), _MAX_ATTACHED):
        names = ", ".join(document.get_attachment(index).get_name() for index in range(attached))
        missing.append(f"attached files are not read: {names}")
    pages = [lines_of(page) for page in kept]
    for page, texts in zip(pages, notes, strict=True):
        page += [Line(f"Note: {text}", space_above=True) for text in texts]
    title = _title(document, pages)
    join_words(pages)
    text, offsets = _joined(pages)
    if empty and not text:
        raise UnreadableError("; ".join(missing))
    headings = sorted(_headings(document, offsets), key=lambda heading: heading.start)
    return Parsed(text, title, headings, paged=True, metadata=_metadata(document), missing=missing)


def _joined(pages: Sequence[list[Line]]) -> tuple[str, list[list[tuple[int, str]]]]:
    """The text of all pages, and for each page the offsets and texts of its lines."""
    builder = TextBuilder()
    offsets: list[list[tuple[int, str]]] = []
    for number, page in enumerate(pages):
        if number:
            builder.page()
        offsets.append([])
        for line in page:
            before = len(builder)
            builder.add(line.text, "\n\n" if line.space_above else "\n")
            if len(builder) > before:
                offsets[-1].append((len(builder) - len(clean(line.text).strip()), line.text))
    return builder.text, offsets


def _pages(document: PdfDocument) -> tuple[list[list[Word]], list[list[str]], list[int], list[int]]:
    """The words and the notes of all pages, and the numbers of pages without text, and of those that cannot be read."""
    from pypdfium2 import PdfiumError

    words: list[list[Word]] = []
    notes: list[list[str]] = []
    empty, damaged = [], []
    for number in range(len(document)):
        words.append([])
        notes.append([])
        try:
            page = document[number]
            drawn = drawn_words(page)
        except PdfiumError:
            damaged.append(number + 1)
            if damaged[-_MAX_DAMAGED:] == list(range(number + 2 - _MAX_DAMAGED, number + 2)):
                damaged += range(number + 2, len(document) + 1)
                break
            continue
        added, notes[-1] = annotated_words(document, page, drawn or [])
        words[-1] = [*(drawn or []), *added]
        if drawn is None or (not drawn and _shows_something(page)):
            empty.append(number + 1)
        page.close()
    return words, notes, empty, damaged


def _recognise(
    document: PdfDocument,
    empty: Sequence[int],
    pages: list[list[Word]],
    limit: int,
    working: Callable[[], object],
) -> Iterator[str]:
    """Add the recognised words of pages without text, and tell which still have none. `empty`: numbers from 1."""
    advice = "give the file a text layer first (`ocrmypdf IN OUT`)"
    if not empty:
        return
    if not ocr.is_installed():
        yield f"{_ranges(empty)} no text: they may be scanned: install `ragx[ocr]`, or {advice}"
        return
    blank: list[int] = []
    done = 0
    working()
    for index, words in ocr.recognised_words(document, [number - 1 for number in empty[:limit]]):
        working()
        pages[index] += words
        blank += [] if words else [index + 1]
        done += 1
    if blank:
        yield f"{_ranges(blank)} no text, and none was recognised: if one can read it, {advice}"
    if done < min(limit, len(empty)):
        failed = f"recognition failed on the first or took over {ocr.PAGE_SECONDS:g} seconds"
        yield f"{_ranges(empty[done:])} no text: {failed}: {advice}"
    elif rest := empty[limit:]:
        stops = f"recognition stops after {counted(limit, 'page')} of a file"
        yield f"{_ranges(rest)} no text: {stops}: build the index with `--ocr-pages {len(empty)}`, or {advice}"


def _shows_something(page: PdfPage) -> bool:
    """It is not blank: it has an image, or as many drawings as letters would need."""
    import pypdfium2.raw as pdfium

    count = pdfium.FPDFPage_CountObjects(page)
    kinds = Counter(
        pdfium.FPDFPageObj_GetType(pdfium.FPDFPage_GetObject(page, index)) for index in range(min(count, 10_000))
    )
    return kinds[pdfium.FPDF_PAGEOBJ_PATH] >= _MIN_PATHS or bool(
        kinds[pdfium.FPDF_PAGEOBJ_IMAGE] + kinds[pdfium.FPDF_PAGEOBJ_FORM]
    )


def _title(document: PdfDocument, pages: Sequence[list[Line]]) -> str:
    """The title that the file states or, if that is none, the largest text of the first page."""
    stated = one_line(clean(document.get_metadata_value("Title")))
    has_letters = any(character.isalpha() for character in stated)
    if has_letters and stated.casefold() not in _PLACEHOLDERS and not _FILE_NAME.search(stated):
        return stated
    lines = pages[0] if pages else []
    sizes = Counter[float]()
    for line in lines:
        sizes[round(line.size, 1)] += len(line.text)
    if not sizes:
        return ""
    usual = sizes.most_common(1)[0][0]
    for size in sorted(sizes, reverse=True)[:3]:
        if size < _LARGE * usual:
            break
        blocks = [list(block) for _, block in groupby(lines, lambda line: round(line.size, 1))]
        title = " ".join(line.text for line in next(block for block in blocks if round(block[0].size, 1) == size))
        if sum(character.isalpha() for character in title) >= 4 and len(title) <= _MAX_TITLE_CHARS:
            return title
    return ""


def _metadata(document: PdfDocument) -> dict[str, object]:
    stated = {key: " ".join(value.split()) for key, value in document.get_metadata_dict(skip_empty=True).items()}
    metadata: dict[str, object] = {
        key.lower(): stated[key]
        for key in ("Author", "Subject", "Keywords")
        if stated.get(key, "").strip("()").casefold() not in _PLACEHOLDERS
    }
    if date := _DATE.match(stated.get("CreationDate", "")):
        year, month, day = (int(part or 1) for part in date.groups())
        with suppress(ValueError):
            metadata["created"] = datetime.date(year, month, day).isoformat()
    return metadata | {"pages": len(document)}


def _headings(document: PdfDocument, pages: Sequence[list[tuple[int, str]]]) -> Iterator[Heading]:
    """The outline. A heading begins at its line or, where none has its words, at the top of its page.

    `pages`: the lines of each page with their offsets.
    """
    from pypdfium2 import PdfiumError

    plain: dict[int, list[str]] = {}
    try:
        for entry in islice(document.get_toc(), _MAX_HEADINGS):
            title = " ".join(clean(entry.get_title()).split())
            target = entry.get_dest()
            number = target.get_index() if target else None
            if not title or number is None:
                continue
            while number < len(pages) and not pages[number]:  # a page without text: the next that has some
                number += 1
            if number >= len(pages):
                continue
            texts = plain.setdefault(number, [_plain(text) for _, text in pages[number]])
            yield Heading(pages[number][_place(_plain(title), texts)][0], entry.level + 1, title)
    except PdfiumError:  # a damaged outline
        return


def _place(title: str, lines: Sequence[str]) -> int:
    """The index of a heading's line, which may have a number before it or end early; 0 if there is none."""

    def fit(line: str) -> int:
        if line == title:
            return 3
        if line.endswith(title) and len(line) <= len(title) + 12:
            return 2
        return len(line) >= 4 and title.startswith(line)

    fits = [fit(line) if title else 0 for line in lines]
    return fits.index(max(fits))


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _ranges(numbers: Sequence[int]) -> str:
    """Say "page 3 has" or "pages 2-4 and 7 have"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    if len(parts) > 20:
        parts = [*parts[:20], f"{len(parts) - 20} more ranges"]
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"page {listed} has" if len(numbers) == 1 else f"pages {listed} have"
