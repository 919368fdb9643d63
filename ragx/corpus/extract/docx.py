"""Word documents (.docx)."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ragx.corpus.extract.parsed import Parsed, UnreadableError, clean

MAX_UNPACKED_BYTES = 200 << 20
"""Total of all members."""


def parse(path: Path) -> Parsed:
    """The text of all paragraphs.

    Raises:
        UnreadableError: it is no Word document, or unpacks to more than the limit.
    """
    from mammoth import extract_raw_text

    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        raise UnreadableError("is not a Word document (.docx), or it is damaged or encrypted") from None
    if unpacked > MAX_UNPACKED_BYTES:
        raise UnreadableError(f"unpacks to {unpacked >> 20} MB; the limit is {MAX_UNPACKED_BYTES >> 20} MB")
    with path.open("rb") as file:
        return Parsed(clean(extract_raw_text(file).value).strip())
