"""PDF files."""

from __future__ import annotations

from pathlib import Path

from ragx.corpus.extract.parsed import Parsed, TextBuilder, UnreadableError


def parse(path: Path) -> Parsed:
    """The text of all pages.

    Raises:
        UnreadableError: it is encrypted, or no page has text.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    text = TextBuilder()
    try:
        reader = PdfReader(path)
        for number, page in enumerate(reader.pages):
            if number:
                text.page()
            text.add(page.extract_text())
        title = str((reader.metadata and reader.metadata.title) or "")
    except (FileNotDecryptedError, DependencyError):
        raise UnreadableError("is encrypted: save it without a password") from None
    if not text.text:
        raise UnreadableError("has no text layer: it may be a scan that needs text recognition (OCR) first")
    return Parsed(text.text, "" if title.lower() == "untitled" else title, paged=True)
