"""Files of every format with the same text, four pages of it: 36 KB."""

from __future__ import annotations

import json
import zipfile
from email.message import EmailMessage
from mailbox import mbox
from pathlib import Path
from xml.sax.saxutils import escape

PARAGRAPH = "Fresh snow reflects most of the sunlight that falls on it; dark soil {} absorbs most of the light. "
PAGES = 4
PARAGRAPHS = 30
"""Per page."""
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMESPACES = f'xmlns:r="{OFFICE}" ' + " ".join(
    f'xmlns:{prefix}="http://schemas.openxmlformats.org/{name}/2006/main"'
    for prefix, name in zip("wxpa", ("wordprocessingml", "spreadsheetml", "presentationml", "drawingml"), strict=True)
)
OPEN_DOCUMENT = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text")
)


def write_files(folder: Path, number: int) -> None:
    """Write a file of each format."""
    from reportlab.pdfgen.canvas import Canvas

    folder.mkdir(parents=True, exist_ok=True)
    lines = [PARAGRAPH.format(f"{number}.{line}") for line in range(PAGES * PARAGRAPHS)]
    body = "".join(f"<p>{escape(line * 3)}</p>" for line in lines)
    (folder / f"{number}.html").write_text(
        f"<html><head><title>Snow {number}</title></head><body><nav><a href='/'>Home</a></nav><article>{body}</article>"
        "<footer>Imprint</footer></body></html>"
    )
    canvas = Canvas(str(folder / f"{number}.pdf"))
    for page in range(PAGES):
        for row, line in enumerate(lines[page * PARAGRAPHS : (page + 1) * PARAGRAPHS]):
            canvas.drawString(40, 800 - 20 * row, line)
        canvas.showPage()
    canvas.save()
    for suffix, parts in office_files(lines * 3).items():
        with zipfile.ZipFile(folder / f"{number}.{suffix}", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
    for suffix, text in text_files([line * 3 for line in lines]).items():
        (folder / f"{number}.{suffix}").write_text(text)
    write_mails(folder, number, [line * 3 for line in lines])


def office_files(lines: list[str]) -> dict[str, dict[str, str]]:
    """The parts of a file of each office format by its suffix. The workbook has a row of eight cells a line."""
    word = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines)
    shapes = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in lines[: len(lines) // PAGES])
    slide = f"<p:cSld><p:spTree><p:sp><p:txBody>{shapes}</p:txBody></p:sp></p:spTree></p:cSld>"
    slides = "".join(f'<p:sldId r:id="r{page}"/>' for page in range(PAGES))
    cells = '<x:c t="inlineStr"><x:is><x:t>{}</x:t></x:is></x:c>' + "<x:c><x:v>12.5</x:v></x:c>" * 7
    rows = "".join(f"<x:row>{cells.format(line)}</x:row>" for line in lines)
    text = "".join(f"<text:p>{line}</text:p>" for line in lines)
    return {
        "epub": {
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="a.opf"/></rootfiles></container>',
            "a.opf": '<package><manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="a"/></spine></package>',
            "a.xhtml": f"<html><body>{''.join(f'<p>{line}</p>' for line in lines)}</body></html>",
        },
        "docx": {"word/document.xml": f"<w:document {NAMESPACES}><w:body>{word}</w:body></w:document>"},
        "pptx": {
            "ppt/presentation.xml": f"<p:presentation {NAMESPACES}><p:sldIdLst>{slides}</p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": relations("slide", "1.xml", PAGES),
            "ppt/1.xml": f"<p:sld {NAMESPACES}>{slide}</p:sld>",
        },
        "xlsx": {
            "xl/workbook.xml": f'<x:workbook {NAMESPACES}><x:sheets><x:sheet name="a" r:id="r0"/></x:sheets>'
            "</x:workbook>",
            "xl/_rels/workbook.xml.rels": relations("worksheet", "1.xml", 1),
            "xl/1.xml": f"<x:worksheet {NAMESPACES}><x:sheetData>{rows}</x:sheetData></x:worksheet>",
        },
        "odt": {
            "content.xml": f"<office:document-content {OPEN_DOCUMENT}><office:body><office:text>{text}</office:text>"
            "</office:body></office:document-content>"
        },
    }


def relations(type: str, target: str, count: int) -> str:
    """A part of relations with the ids r0, r1, …"""
    found = (f'<Relationship Id="r{n}" Type="{OFFICE}/{type}" Target="{target}"/>' for n in range(count))
    return f'<Relationships xmlns="{PACKAGE}/relationships">{"".join(found)}</Relationships>'


def text_files(lines: list[str]) -> dict[str, str]:
    """A file of each format of text by its suffix."""
    paragraphs = "\n\n".join(lines)
    cells = [line.replace(",", "").split()[:8] for line in lines for _ in range(6)]
    cues = (
        f"{n}\n00:{n // 60:02}:{n % 60:02},000 --> 00:{n // 60:02}:{n % 60:02},900\n{line}\n"
        for n, line in enumerate(lines)
    )
    notebook = [{"cell_type": "markdown", "metadata": {}, "source": [line]} for line in lines]
    wiki = "".join(
        f"<page><title>{n}</title><ns>0</ns><revision><text>'''{line}''' [[snow]]</text></revision></page>"
        for n, line in enumerate(lines)
    )
    return {
        "txt": paragraphs,
        "md": f"# Snow\n\n{paragraphs}\n",
        "rst": f"Snow\n====\n\n{paragraphs}\n",
        "org": f"* Snow\n{paragraphs}\n",
        "tex": f"\\documentclass{{article}}\\begin{{document}}\\section{{Snow}}\n{paragraphs}\n\\end{{document}}\n",
        "srt": "\n".join(cues),
        "json": json.dumps([{"name": str(n), "text": line} for n, line in enumerate(lines)]),
        "yaml": "".join(f"line{n}:\n  text: {json.dumps(line)}\n" for n, line in enumerate(lines)),
        "csv": "\n".join(map(",".join, cells)) + "\n",
        "py": "".join(f'def snow{n}():\n    """{line}"""\n    return {n}\n\n\n' for n, line in enumerate(lines)),
        "ipynb": json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": notebook}),
        "xml": f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">{wiki}</mediawiki>',
        "docbook": f"<article><title>Snow</title>{''.join(f'<para>{line}</para>' for line in lines)}</article>",
        "rtf": "{\\rtf1\\ansi " + "".join(f"\\pard {line}\\par\n" for line in lines) + "}",
    }


def write_mails(folder: Path, number: int, lines: list[str]) -> None:
    """Write a mail and a mailbox of four mails."""
    message = EmailMessage()
    message["Subject"], message["From"] = "Snow", "ida@example.org"
    message.set_content("\n".join(lines))
    (folder / f"{number}.eml").write_bytes(bytes(message))
    path = folder / f"{number}.mbox"
    path.unlink(missing_ok=True)
    box = mbox(path)
    for page in range(PAGES):
        message.set_content("\n".join(lines[page * PARAGRAPHS : (page + 1) * PARAGRAPHS]))
        box.add(message)
    box.close()
