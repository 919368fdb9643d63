"""How much faster files are parsed with two processes than with one.

    python -m benchmarks.parsing FOLDER [--generate 60] [--rounds 5]

FOLDER has files of the formats that are parsed in processes; `--generate` first writes that many HTML, PDF, office and
RTF files of four pages of text into it. Prints a Markdown table of files per second by format: the best of several
alternating rounds, without the start of the processes.
"""

from __future__ import annotations

import argparse
import time
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.tables import markdown
from ragx.corpus import Skipped
from ragx.corpus.formats import EXTRACTED
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import SourceFile, find_files

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generate", type=int, default=0, help="files of each format to write into the folder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for number in range(options.generate):
        write_files(options.folder, number)
    files = [file for file in find_files([options.folder]) if isinstance(file, SourceFile)]
    rows = []
    with FileReader(1) as one, FileReader(2) as two:
        for format in sorted(EXTRACTED):
            if chosen := [file for file in files if file.format == format]:
                for reader in (one, two):  # warm-up
                    seconds(chosen[:4], reader)
                rounds = [(seconds(chosen, one), seconds(chosen, two)) for _ in range(options.rounds)]
                rates = [len(chosen) / min(times) for times in zip(*rounds, strict=True)]
                ratio = rates[1] / rates[0]
                rows.append((format, len(chosen), f"{rates[0]:.1f}", f"{rates[1]:.1f}", f"{ratio:.2f}"))
    print(markdown(("format", "files", "1 process, files/s", "2 processes, files/s", "ratio"), rows))


def seconds(files: list[SourceFile], reader: FileReader) -> float:
    """Time to parse the files."""
    started = time.perf_counter()
    skipped = [entry for entry in reader.read(files) if isinstance(entry, Skipped)]
    assert not skipped, skipped
    return time.perf_counter() - started


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
    (folder / f"{number}.rtf").write_text(
        "{\\rtf1\\ansi " + "".join(f"\\pard {line}\\par\n" for line in lines * 3) + "}"
    )


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


if __name__ == "__main__":
    main()
