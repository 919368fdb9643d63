"""How much faster files are parsed with two processes than with one.

    python -m benchmarks.parsing FOLDER [--generate 60] [--rounds 5]

FOLDER has HTML, PDF and Word files; `--generate` first writes that many of each into it. Prints a Markdown table of
files per second by format: the best of several alternating rounds, without the start of the processes.
"""

from __future__ import annotations

import argparse
import time
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.tables import markdown
from ragx.corpus import Skipped
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import SourceFile, find_files

PARAGRAPH = "Fresh snow reflects most of the sunlight that falls on it; dark soil {} absorbs most of the light. "
PAGES = 4
PARAGRAPHS = 30
"""Per page."""
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


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
        for format in ("html", "pdf", "docx"):
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
    paragraphs = "".join(f"<w:p><w:r><w:t>{escape(line)}</w:t></w:r></w:p>" for line in lines * 3)
    members = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{OFFICE_DOCUMENT}" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{paragraphs}</w:body></w:document>',
    }
    with zipfile.ZipFile(folder / f"{number}.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


if __name__ == "__main__":
    main()
