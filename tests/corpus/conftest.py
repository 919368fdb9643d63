"""Small real files of the formats that the corpus reads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from ragx.config import DatasetSource
from ragx.corpus import Document, Skipped
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import find_files

Read = Callable[..., tuple[list[Document], list[Skipped]]]
Write = Callable[..., Path]

PACKAGE = "http://schemas.openxmlformats.org/package/2006"
MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


@pytest.fixture
def read() -> Read:
    """Read sources to the end: the documents, and what was skipped. `limits`: arguments of the `FileReader`."""

    def read(
        *sources: Path | DatasetSource, limits: dict[str, Any] | None = None, **options: Any
    ) -> tuple[list[Document], list[Skipped]]:
        with FileReader(**limits or {}) as reader:
            entries = list(reader.read(find_files(sources, **options)))
        documents = [entry for entry in entries if isinstance(entry, Document)]
        return documents, [entry for entry in entries if isinstance(entry, Skipped)]

    return read


@pytest.fixture
def write_pdf() -> Write:
    """`write_pdf(path, *lines, title=None, password=None)`: a page a line."""

    def write_pdf(path: Path, *lines: str, title: str | None = None, password: str | None = None) -> Path:
        from reportlab.lib.pdfencrypt import StandardEncryption
        from reportlab.pdfgen.canvas import Canvas

        encryption = StandardEncryption(password, strength=128) if password is not None else None
        canvas = Canvas(str(path), encrypt=encryption)
        if title is not None:
            canvas.setTitle(title)
        for line in lines:
            canvas.drawString(72, 720, line)
            canvas.showPage()
        canvas.save()
        return path

    return write_pdf


@pytest.fixture
def write_docx() -> Write:
    """`write_docx(path, *paragraphs, extra={member: data})`."""

    def write_docx(path: Path, *paragraphs: str, extra: dict[str, bytes] | None = None) -> Path:
        body = "".join(f"<w:p><w:r><w:t>{escape(paragraph)}</w:t></w:r></w:p>" for paragraph in paragraphs)
        members = {
            "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
            f'<Relationship Id="r1" Type="{OFFICE_DOCUMENT}" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f'<w:document xmlns:w="{MAIN}"><w:body>{body}</w:body></w:document>',
        } | (extra or {})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path

    return write_docx
