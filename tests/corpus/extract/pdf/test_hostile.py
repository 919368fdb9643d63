"""PDF files made to do harm cost themselves: one line that says why, within the limits."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import pytest

from ragx.corpus.document import Document, Skipped
from ragx.corpus.extract.parser import Parser

SECONDS = 10.0
TEXT = b"BT /F 12 Tf 72 700 Td (Snow is white) Tj ET"
FONT = b"<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"


def pdf(*objects: bytes) -> bytes:
    """A file of objects numbered from 1, the first of them the catalogue; there is no table of their places."""
    body = b"".join(b"%d 0 obj %b endobj\n" % (number, object) for number, object in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer<</Root 1 0 R>>\n%%EOF\n"


def stream(data: bytes, *filters: bytes, entries: bytes = b"") -> bytes:
    names = b"".join(b"/" + name for name in filters)
    return b"<</Length %d/Filter[%b]%b>>stream\n%b\nendstream" % (len(data), names, entries, data)


CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
PAGES = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE = b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 600 800]/Resources " + FONT + b">>"
BOMB = zlib.compress(zlib.compress(b"\0" * (256 << 20), 1), 9)
DEEP = b"[" * 500_000 + b"]" * 500_000
FLATE = b"FlateDecode"

FILES = {
    "whole": pdf(CATALOG, PAGES, PAGE, stream(TEXT)),
    "empty": b"",
    "not a pdf": b"Snow is white. " * 1000,
    "header only": b"%PDF-1.7\n",
    "no pages": pdf(CATALOG, b"<</Type/Pages/Kids[]/Count 0>>"),
    "loop in the page tree": pdf(CATALOG, b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2>>"),
    "loop of two": pdf(CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 9>>", b"<</Type/Pages/Kids[2 0 R]/Count 9>>"),
    "a billion pages": pdf(CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1000000000>>", PAGE, stream(TEXT)),
    "a million pages": pdf(CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1000000>>", PAGE, stream(TEXT)),
    "the same page often": pdf(
        CATALOG, b"<</Type/Pages/Kids[" + b"3 0 R " * 200_000 + b"]/Count 200000>>", PAGE, stream(TEXT)
    ),
    "deep nesting": pdf(CATALOG, PAGES, PAGE[:-2] + b"/Deep " + DEEP + b">>", stream(TEXT)),
    "deep content": pdf(CATALOG, PAGES, PAGE, stream(DEEP + TEXT)),
    "form that draws itself": pdf(
        CATALOG,
        PAGES,
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>",
        stream(b"/X Do " * 100),
        stream(b"/X Do " * 100, entries=b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>"),
    ),
    "stream of gigabytes": pdf(CATALOG, PAGES, PAGE, stream(BOMB, FLATE, FLATE)),
    "object stream of gigabytes": pdf(
        CATALOG, b"<</Type/Pages/Kids[9 0 R]/Count 1>>", stream(BOMB, FLATE, FLATE, entries=b"/Type/ObjStm/N 1/First 4")
    ),
    "many filters": pdf(CATALOG, PAGES, PAGE, stream(TEXT, *[FLATE] * 10_000)),
    "text of a hundred megabytes": pdf(
        CATALOG, PAGES, PAGE, stream(zlib.compress(b"BT /F 12 Tf " + b"(snow) Tj " * 10_000_000 + b" ET"), FLATE)
    ),
    "loop in the outline": pdf(
        b"<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>",
        PAGES,
        PAGE,
        stream(TEXT),
        b"<</First 6 0 R/Last 6 0 R>>",
        b"<</Title(Snow)/Dest[3 0 R/Fit]/Next 6 0 R/First 6 0 R/Parent 5 0 R>>",
    ),
    "deep outline": pdf(
        b"<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>",
        PAGES,
        PAGE,
        stream(TEXT),
        *(b"<</Title(Snow)/Dest[3 0 R/Fit]/First %d 0 R>>" % (number + 6) for number in range(50_000)),
    ),
    "loop of fields": pdf(
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[5 0 R]>>>>",
        PAGES,
        PAGE[:-2] + b"/Annots[5 0 R]>>",
        stream(TEXT),
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(b)/Rect[0 0 9 9]/Parent 5 0 R/Kids[5 0 R]>>",
    ),
    "great media box": pdf(CATALOG, PAGES, PAGE.replace(b"[0 0 600 800]", b"[-1e30 -1e30 1e30 1e30]"), stream(TEXT)),
    "great font": pdf(CATALOG, PAGES, PAGE, stream(b"BT /F 1e38 Tf 1e38 0 0 1e38 1e38 1e38 Tm (Snow) Tj ET")),
}


@pytest.fixture(scope="module")
def parser():
    parser = Parser(max_seconds=SECONDS)
    yield parser
    parser.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_read_or_skipped_in_one_line(tmp_path: Path, parser: Parser, name: str):
    path = tmp_path / "a.pdf"
    path.write_bytes(FILES[name])
    started = time.monotonic()
    entries = parser.read_file(path, "a", "pdf")
    assert time.monotonic() - started < 2 * SECONDS
    assert entries
    for entry in entries:
        if isinstance(entry, Skipped):
            assert entry.reason
            assert "\n" not in entry.reason
        else:
            assert isinstance(entry, Document)
    if name in ("whole", "deep outline", "loop in the outline", "loop of fields", "great media box"):
        assert [entry.text[:13] for entry in entries if isinstance(entry, Document)] == ["Snow is white"]
