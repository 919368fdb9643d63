"""What bears the suffix of an old Word or PowerPoint file (.doc, .ppt): often a file in another format."""

from __future__ import annotations

from pathlib import Path

from ragx.corpus.extract import docx, html, pptx, rtf
from ragx.corpus.extract.office.package import Package, wrong_content
from ragx.corpus.extract.parsed import Parsed, UnreadableError


def parse(path: Path, comments: bool = False) -> Parsed:
    """The text, if the file is in a newer format, RTF or HTML.

    Raises:
        UnreadableError: it is in an old format.
    """
    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t")
    if head.startswith(b"{\\rtf"):
        return rtf.parse(path, comments)
    if head.startswith(b"<"):
        return html.parse(path)
    if not head.startswith(b"PK"):
        raise UnreadableError(wrong_content(path, "an office file"))
    with Package(path, "an office file") as package:
        is_presentation = "ppt/presentation.xml" in package
    return pptx.parse(path, comments) if is_presentation else docx.parse(path, comments)
