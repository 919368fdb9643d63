"""Text recall, reading order and speed of libraries that extract the text of PDF files, and of ragx.

    python -m benchmarks.pdf FOLDER [--generate] [--only ragx pypdf …] [--files]

FOLDER holds PDF files. `--generate` first writes files of known text into it: two columns drawn row by row, rotated,
letter-spaced, a table, a form. The reference of `a.pdf` is `a.txt` beside it or, without one, the output of Poppler's
`pdftotext`. Recall is the share of the reference's words that the text has, order the share of its runs of three words;
both leave case, hyphenation and ligatures aside. `rapidocr` recognises the text on images of the pages, and only runs
if it is named. Prints a Markdown table of the mean over files; libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

WORDS = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+")
HYPHENATED = re.compile(r"(?<=[^\W\d_])(?:\ufffe|[-\u00ad\ufffe]\s*[\n\f]\s*)(?=[^\W\d_])")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generate", action="store_true", help="write files of known text into the folder first")
    parser.add_argument("--only", nargs="+", choices=EXTRACTORS, default=list(EXTRACTORS)[:-1])
    parser.add_argument("--files", action="store_true", help="print the figures of each file as well")
    options = parser.parse_args()
    if options.generate:
        write_files(options.folder)
    references = {path: reference(path) for path in sorted(options.folder.glob("*.pdf"))}
    print(f"{len(references)} files\n\n| library | recall | order | pages/CPU s | failures |\n|---|---|---|---|---|")
    for name in options.only:
        try:
            print(row(name, EXTRACTORS[name], references, options.files), flush=True)
        except (ImportError, PackageNotFoundError):
            continue


def row(name: str, extract: Callable[[Path], str], references: dict[Path, str], show: bool) -> str:
    """The figures of a library as a row of a table."""
    recalls, orders, pages, seconds, failures = [], [], 0, 0.0, 0
    for path, expected in references.items():
        started = time.process_time()
        try:
            text = extract(path)
        except ImportError:
            raise
        except Exception as error:
            text = ""
            failures += 1
            if show:
                print(f"{name} {path.name}: {type(error).__name__}: {error}")
        seconds += time.process_time() - started
        pages += max(expected.count("\f"), 1)
        recalls.append(share(words(expected), words(text), 1))
        orders.append(share(words(expected), words(text), 3))
        if show:
            print(f"{name} {path.name}: {recalls[-1]:.3f} {orders[-1]:.3f}")
    shown = f"{name} {version(name)}"
    means = [sum(values) / len(values) for values in (recalls, orders)]
    return f"| {shown} | {means[0]:.3f} | {means[1]:.3f} | {pages / seconds:.3g} | {failures} |"


def words(text: str) -> list[str]:
    """The words of a text; each ideograph and kana is one."""
    return WORDS.findall(unicodedata.normalize("NFKC", HYPHENATED.sub("", text)).replace("\u00ad", "").lower())


def share(expected: list[str], found: list[str], length: int) -> float:
    """The share of the runs of so many words that the other text has."""
    runs = [Counter(zip(*(text[start:] for start in range(length)), strict=False)) for text in (expected, found)]
    return (runs[0] & runs[1]).total() / max(runs[0].total(), 1)


def reference(path: Path) -> str:
    """The text that a file should give."""
    known = path.with_suffix(".txt")
    if known.exists():
        return known.read_text()
    return subprocess.run(["pdftotext", path, "-"], check=True, capture_output=True, text=True).stdout  # noqa: S607


def with_ragx(path: Path) -> str:
    from ragx.corpus.extract.pdf import parse

    return parse(path).text


def with_ocr(path: Path) -> str:
    """ragx on images of the pages: what it recognises with `ragx[ocr]`."""
    from io import BytesIO
    from tempfile import NamedTemporaryFile

    from pypdfium2 import PdfDocument
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    with NamedTemporaryFile(suffix=".pdf") as file:
        document = PdfDocument(path)
        document.init_forms()
        canvas = Canvas(file.name)
        for page in document:
            image = BytesIO()
            page.render(scale=OCR_DOTS_PER_INCH / 72).to_pil().save(image, "PNG")
            canvas.setPageSize(page.get_size())
            canvas.drawImage(ImageReader(image), 0, 0, *page.get_size())
            canvas.showPage()
        canvas.save()
        return with_ragx(Path(file.name))


def with_pypdf(path: Path) -> str:
    from pypdf import PdfReader

    return "\f".join(page.extract_text() for page in PdfReader(path).pages)


def with_pypdfium2(path: Path) -> str:
    from pypdfium2 import PdfDocument

    return "\f".join(page.get_textpage().get_text_range() for page in PdfDocument(path))


def with_pdfminer(path: Path) -> str:
    from pdfminer.high_level import extract_text

    return str(extract_text(path))


def with_pdfplumber(path: Path) -> str:
    from pdfplumber import open as open_pdf

    with open_pdf(path) as file:
        return "\f".join(page.extract_text() for page in file.pages)


def with_kreuzberg(path: Path) -> str:
    from kreuzberg import extract_file_sync

    return str(extract_file_sync(str(path)).content)


def with_pdf_oxide(path: Path) -> str:
    from pdf_oxide import PdfDocument

    document = PdfDocument(str(path))
    return "\f".join(document.extract_text(number) for number in range(document.page_count()))


EXTRACTORS: dict[str, Callable[[Path], str]] = {
    "ragx": with_ragx,
    "pypdf": with_pypdf,
    "pypdfium2": with_pypdfium2,
    "pdfminer.six": with_pdfminer,
    "pdfplumber": with_pdfplumber,
    "kreuzberg": with_kreuzberg,
    "pdf_oxide": with_pdf_oxide,
    "rapidocr": with_ocr,
}
OCR_DOTS_PER_INCH = 200

LEFT = "The glacier retreats faster every summer because dark soil absorbs the sunlight that snow would reflect."
RIGHT = "Farmers in the valley below store the water of spring in ponds and lead it to the fields through canals."
ROWS = [("Station", "Height", "Snow"), ("Arolla", "2040 m", "310 cm"), ("Zinal", "1675 m", "185 cm")]


def write_files(folder: Path) -> None:
    """Write the files of known text."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen.canvas import Canvas

    folder.mkdir(parents=True, exist_ok=True)
    left, right = ([f"{text} {n}" for n in range(9) for text in cut(column)] for column in (LEFT, RIGHT))

    def write(name: str, text: str) -> Canvas:
        (folder / f"made-{name}.txt").write_text(text)
        return Canvas(str(folder / f"made-{name}.pdf"), pagesize=A4)

    canvas = write("columns-by-row", "\n".join(left + right))
    for number, pair in enumerate(zip(left, right, strict=True)):
        for x, line in zip((60, 310), pair, strict=True):
            canvas.drawString(x, 780 - 14 * number, line)
    canvas.save()
    canvas = write("columns-by-word", "\n".join(left + right))
    for number, pair in enumerate(zip(left, right, strict=True)):
        for start, line in zip((60, 310), pair, strict=True):
            right_edge = float(start)
            for word in line.split():
                canvas.drawString(right_edge, 780 - 14 * number, word)
                right_edge += canvas.stringWidth(f"{word} ", "Helvetica", 12)
    canvas.save()
    canvas = write("rotated", "\n".join(left))
    canvas.rotate(90)
    for number, line in enumerate(left):
        canvas.drawString(60, -60 - 14 * number, line)
    canvas.save()
    canvas = write("rotated-page", "\n".join(left))
    canvas.setPageRotation(90)
    canvas.rotate(90)
    for number, line in enumerate(left):
        canvas.drawString(60, -60 - 14 * number, line)
    canvas.save()
    for name, spacing in (("letter-spaced", 3), ("letter-spaced-wide", 7)):
        canvas = write(name, "\n".join(left))
        for number, line in enumerate(left):
            canvas.drawString(40, 780 - 14 * number, line, charSpace=spacing)
        canvas.save()
    canvas = write("table", "\n".join(" ".join(cells) for cells in ROWS * 9))
    for column in range(3):  # column by column
        for row, cells in enumerate(ROWS * 9):
            canvas.drawString(60 + 150 * column, 780 - 20 * row, cells[column])
    canvas.save()
    canvas = write("form", "Membership form\nName Philomena Quist\nTown Saint Gall")
    canvas.drawString(60, 780, "Membership form")
    for number, (label, value) in enumerate([("Name", "Philomena Quist"), ("Town", "Saint Gall")]):
        canvas.drawString(60, 740 - 40 * number, label)
        canvas.acroForm.textfield(name=label, value=value, x=160, y=730 - 40 * number, width=200, height=24)
    canvas.save()


def cut(text: str) -> list[str]:
    """The text in lines of at most 34 characters."""
    return re.findall(r"\S.{0,33}(?= |$)", text)


if __name__ == "__main__":
    main()
