"""Files that are damaged, or made to do harm, cost themselves: one line that names them, and the rest is read."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import socket
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ragx.corpus import Document, Skipped
from ragx.corpus.chunking import token_spans
from ragx.corpus.document import normalise
from ragx.corpus.extract.parser import Parser
from ragx.corpus.rows import read_parquet
from ragx.util import compressed
from tests.helpers.mutations import mutated
from tests.helpers.office import small_file, write_parts
from tests.helpers.ole import ole_file

pytestmark = pytest.mark.slow
MUTATIONS = 24
TEXT = "Fresh snow reflects most of the sunlight, caf\u00e9 and all. "
WIKI = (
    "<mediawiki><siteinfo><namespaces><namespace key='6'>File</namespace></namespaces></siteinfo>"
    "<page><title>Snow</title><ns>0</ns><revision><text>'''Snow''' is [[white]].</text></revision></page></mediawiki>"
)
EPUB = {
    "META-INF/container.xml": "<container><rootfile full-path='a.opf'/></container>",
    "a.opf": "<package><item id='a' href='a.html' media-type='text/html'/><itemref idref='a'/></package>",
    "a.html": f"<p>{TEXT}",
}
limits_memory = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")


def parquet(path: Path, **columns: object) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, store_schema=False)
    return path


def zstd(data: bytes) -> bytes:
    import pyarrow

    return bytes(pyarrow.compress(data, "zstd", asbytes=True))


@pytest.fixture
def whole_files(tmp_path, write_pdf, write_docx) -> Callable[[str], bytes]:
    """A valid small file by the end of its name."""

    def whole(suffix: str) -> bytes:
        rows = "".join(json.dumps({"id": n, "title": "T", "text": TEXT}) + "\n" for n in range(5)).encode()
        path = tmp_path / f"whole{suffix}"
        match suffix:
            case ".pdf":
                return write_pdf(path, TEXT, title="T").read_bytes()
            case ".docx":
                return write_docx(path, TEXT, TEXT).read_bytes()
            case ".pptx" | ".xlsx" | ".xls" | ".odt" | ".rtf":
                return small_file(path, TEXT).read_bytes()
            case ".epub":
                return write_parts(path, EPUB).read_bytes()
            case ".parquet":
                return parquet(path, id=[1, 2], title=["T", None], text=[TEXT, TEXT]).read_bytes()
        return {
            ".txt": TEXT.encode("utf-16"),
            ".md": f"# Title #\n\n```\n{TEXT}\n```\n".encode(),
            ".rst": f"Title\n=====\n\n{TEXT}".encode("cp1252"),
            ".mdx": f"---\ntitle: T\ntags: [a, b]\n---\n# Title\n\n{TEXT}".encode(),
            ".org": f"#+TITLE: T\n* Head :tag:\n:PROPERTIES:\n:END:\n{TEXT}".encode(),
            ".tex": f"\\title{{T}}\\begin{{document}}\\section{{Head}}{TEXT}\\end{{document}}".encode(),
            ".srt": f"1\n00:00:01,000 --> 00:00:02,000\n{TEXT}\n".encode(),
            ".json": json.dumps({"a": [{"b": TEXT}], "c": {"d": 1}}).encode(),
            ".yaml": f"a:\n  b: {TEXT!r}\nc: [1, 2]\n".encode(),
            ".py": f"class A:\n    def f(self):\n        return {TEXT!r}\n".encode(),
            ".ipynb": json.dumps({"cells": [{"cell_type": "markdown", "source": TEXT}], "metadata": {}}).encode(),
            ".csv": f'Name,Note\nA,"{TEXT}"\nB,{TEXT}\n'.encode(),
            ".html": f"<html><head><title>T</title></head><body><p>{TEXT * 3}</p><!-- c --></body></html>".encode(),
            ".eml": f"Subject: =?utf-8?q?T?=\nContent-Type: text/html\n\n<p>{TEXT}".encode(),
            ".mbox": f"From a@b Sat Oct  5 12:34:56 2024\nSubject: T\n\n{TEXT}\n\n".encode() * 3,
            ".msg": ole_file({"__properties_version1.0": bytes(48), "__substg1.0_1000001F": TEXT.encode("utf-16-le")}),
            ".jsonl": rows,
            ".jsonl.gz": gzip.compress(rows),
            ".jsonl.bz2": bz2.compress(rows),
            ".jsonl.xz": lzma.compress(rows),
            ".tsv": f'id\ttext\ttitle\n1\t"{TEXT}"\tT\n2\t{TEXT}\tT\n'.encode(),
            ".xml": WIKI.encode(),
            ".xml.bz2": bz2.compress(WIKI.encode()),
        }[suffix]

    return whole


MARKUP = [".md", ".mdx", ".rst", ".org", ".tex", ".srt", ".json", ".yaml", ".py", ".ipynb", ".csv"]
TEXTS = [".txt", *MARKUP, ".html", ".pdf", ".docx", ".pptx", ".xlsx", ".xls", ".odt", ".rtf", ".epub", ".eml", ".msg"]
ROWS = [".mbox", ".jsonl", ".jsonl.gz", ".jsonl.bz2", ".jsonl.xz", ".parquet", ".tsv", ".xml", ".xml.bz2"]


@pytest.mark.parametrize("suffix", TEXTS + ROWS)
def test_damage_of_any_kind_is_read_or_skipped_in_one_line(tmp_path, read, whole_files, suffix):
    whole, rng = whole_files(suffix), random.Random(suffix)
    folder = tmp_path / "damaged"
    folder.mkdir()
    # a dump starts a process of its own
    names = [f"{number:02}{suffix}" for number in range(6 if ".xml" in suffix else MUTATIONS)]
    for name in names:
        (folder / name).write_bytes(mutated(whole, rng))
    (folder / f"zz{suffix}").write_bytes(whole)
    documents, skipped = read(*(folder / name for name in names), folder / f"zz{suffix}")
    for document in documents:
        assert Path(document.source).name in (*names, f"zz{suffix}")
        assert document.text == unicodedata.normalize("NFC", document.text)
        document.id.encode(), document.title.encode(), document.text.encode()
    for entry in skipped:
        assert any(entry.source.startswith(str(folder / name)) for name in (*names, f"zz{suffix}")), entry
        assert entry.reason
        assert "\n" not in entry.reason
    seen = {Path(document.source).name for document in documents}
    assert f"zz{suffix}" in seen


# Bombs


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("filler", [b"\n", b" "])
def test_a_compressed_file_that_unpacks_to_far_more_than_text_does_is_not_read_whole(tmp_path, suffix, filler):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}[suffix]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(b'{"id": 0, "text": "snow"}\n' + filler * (4 << 20)))
    with compressed.open_bytes(path, small_bytes=1 << 20) as file:
        assert b"snow" in file.readline()
        with pytest.raises(OSError, match="unpacks to over 1 MB"):
            file.read()


@pytest.mark.parametrize(("dictionary", "is_read"), [(64 << 20, True), (257 << 20, False)])  # xz -9 has 64 MB
def test_an_xz_file_cannot_ask_for_any_amount_of_memory(tmp_path, read, dictionary, is_read):
    path = tmp_path / "a.jsonl.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": dictionary}]
    path.write_bytes(lzma.compress(b'{"id": 0, "text": "snow"}\n', filters=filters))
    documents, skipped = read(path)
    assert [document.text for document in documents] == ["snow"] * is_read
    assert ["Memory usage limit exceeded" in entry.reason for entry in skipped] == [True] * (not is_read)


def test_xz_files_of_several_streams_with_padding_are_read_whole(tmp_path):
    data = [os.urandom(300_000), b"", b"a" * 1_000_000]
    path = tmp_path / "a.xz"
    path.write_bytes(b"\0\0\0\0".join(map(lzma.compress, data)) + b"\0" * 8)
    with compressed.open_bytes(path) as file:
        assert file.read() == b"".join(data)


@limits_memory
def test_a_parquet_file_that_repeats_one_huge_text_is_skipped(tmp_path, read):
    import pyarrow

    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["snow " * (1 << 20)])
    bomb = parquet(tmp_path / "a.parquet", id=list(range(1000)), text=text)
    assert bomb.stat().st_size < 1 << 20
    parquet(tmp_path / "b.parquet", id=[7], text=["snow"])
    documents, (skipped,) = read(tmp_path, limits={"max_memory_bytes": 600 << 20})
    assert [document.id for document in documents] == ["7"]
    assert skipped.source == str(bomb)


def test_parquet_rows_that_add_up_to_far_more_than_text_does_are_not_read_to_the_end(tmp_path):
    import pyarrow

    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 300, pyarrow.int32()), ["snow " * (1 << 20)])
    path = parquet(tmp_path / "a.parquet", id=list(range(300)), text=text)
    *rows, skipped = ((entry.source, getattr(entry, "reason", "")) for entry in read_parquet(path, batch_rows=10))
    assert len(rows) == (1 << 30) // (5 << 20)
    assert f"beyond row {len(rows)}: unpacks to over 1,024 MB" in skipped[1]


@limits_memory
def test_a_dump_of_countless_elements_is_skipped(tmp_path, read):
    bomb = tmp_path / "a.xml.bz2"
    bomb.write_bytes(bz2.compress(b"<mediawiki>" + b"<x/>" * (2 << 20)))
    (tmp_path / "b.xml").write_text(WIKI)
    documents, (skipped,) = read(tmp_path, limits={"max_memory_bytes": 300 << 20})
    assert [document.id for document in documents] == ["Snow"]
    assert skipped.source == str(bomb)


@limits_memory
def test_a_pdf_stream_that_unpacks_to_gigabytes_is_skipped(tmp_path, write_pdf, read):
    stream = zlib.compress(zlib.compress(b"\0" * (256 << 20), 1), 9)
    bomb = tmp_path / "a.pdf"
    filters = b"/Filter [/FlateDecode /FlateDecode]"
    bomb.write_bytes(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 9 9]>>endobj\n"
        b"4 0 obj<<" + filters + b"/Length %d>>stream\n" % len(stream) + stream + b"\nendstream endobj\n"
        b"trailer<</Root 1 0 R>>\n"
    )
    write_pdf(tmp_path / "b.pdf", "Snow.")
    documents, (skipped,) = read(tmp_path, limits={"max_memory_bytes": 400 << 20})
    assert [document.text for document in documents] == ["Snow."]
    assert skipped.source == str(bomb)


# Entities


def entities(secret: Path) -> dict[str, str]:
    bomb = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    return {
        "bomb": f'<!DOCTYPE d [<!ENTITY a0 "aaaaaaaaaa">{bomb}<!ENTITY e "&a12;">]>',
        "external": f'<!DOCTYPE d [<!ENTITY e SYSTEM "{secret.as_uri()}">]>',
        "dtd": f'<!DOCTYPE d SYSTEM "{secret.as_uri()}">',
    }


@pytest.mark.parametrize("kind", ["bomb", "external", "dtd"])
def test_no_entity_is_expanded_or_fetched(tmp_path, read, write_docx, kind):
    secret = tmp_path / "secret"
    secret.write_text('<!ENTITY e "the secret">')
    declared = entities(secret)[kind]
    (tmp_path / "a.xml").write_text(declared + WIKI.replace("white", "w &e; w"))
    document = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
    document += "<w:t>Snow &e;</w:t></w:r></w:p></w:body></w:document>"
    write_docx(tmp_path / "b.docx", extra={"word/document.xml": (declared + document).encode()})
    (tmp_path / "c.html").write_text(declared + "<p>Snow &e;</p>")
    documents, skipped = read(tmp_path / "a.xml", tmp_path / "b.docx", tmp_path / "c.html")
    assert len(documents) + len(skipped) >= 3
    for found in documents:
        assert "secret" not in found.text
        assert len(found.text) < 100


# Text that makes work


def seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def test_time_does_not_grow_with_the_square_of_the_combining_marks():
    assert seconds(lambda: normalise("a" + "\u0301\u0327" * 200_000)) < 5
    few = "e" + "\u0327\u0301" * 10
    assert normalise(few) == unicodedata.normalize("NFC", few)
    many = normalise("a" + "\u0327" * 100)
    assert many == normalise(many)
    assert many.replace("\u034f", "") == "a" + "\u0327" * 100


def test_the_tokenizer_never_gets_a_whole_text_that_has_no_spaces():
    pieces = []

    class Recorder:
        def encode(self, text, **_):
            pieces.append(text)
            return SimpleNamespace(offsets=[(0, len(text))])

    text = "snow" * 500_000
    spans = list(token_spans(text, Recorder()))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 1 << 17
    assert [text[start:end] for start, end in spans] == pieces


def test_ids_and_titles_are_limited_in_length(tmp_path, read):
    row = {"id": "a", "title": "t" * 10_000, "text": "snow"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": "b" * 10_000}) + "\n")
    (tmp_path / "b.xml").write_text(WIKI.replace("Snow<", f"{'s' * 10_000}<"))
    (document,), skipped = read(tmp_path)
    assert len(document.title) == 300
    assert [entry.reason.split("longer")[1] for entry in skipped] == [" than 1,000 characters"] * 2
    assert all(len(entry.source) < 1000 for entry in skipped)


# Names and things that are no files


def test_a_socket_is_reported_and_not_opened(tmp_path, read):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.txt"))
        documents, skipped = read(tmp_path)
    assert (documents, skipped) == ([], [Skipped(str(tmp_path / "a.txt"), "is not a regular file")])


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "..", "...", "a\\b", "-rf", "%s{0}", "\u202etxt", "'; --"])
def test_file_names_are_not_interpreted(tmp_path, read, name):
    (tmp_path / f"a{name}.txt").write_text("snow")
    (tmp_path / f"b{name}.html").write_text("<p>snow</p>")
    (tmp_path / f"c{name}.parquet").write_text("snow")
    documents, (skipped,) = read(tmp_path)
    assert [document.id for document in documents] == [f"a{name}.txt", f"b{name}.html"]
    assert skipped.source == str(tmp_path / f"c{name}.parquet")


@pytest.mark.parametrize("length", [4088, 4092, 4095, 5000])  # 4,095 is the longest path that the system takes
def test_a_path_too_deep_for_the_system_is_skipped(tmp_path, read, length):
    (tmp_path / "a.txt").write_text("snow")
    deep, before = tmp_path / "deep", Path.cwd()
    deep.mkdir()
    try:
        os.chdir(deep)
        left = length - len(str(deep))
        while left > 1:  # more than one step, because of the limit
            name = "d" * min(left - 1, 250 if left > 252 else 200)
            Path(name).mkdir()
            os.chdir(name)
            left -= 1 + len(name)
        Path("b.txt" * 9).write_text("snow")
    finally:
        os.chdir(before)
    documents, skipped = read(tmp_path)
    assert [document.id for document in documents] == ["a.txt"]
    assert [entry.reason for entry in skipped] == ["cannot be read: File name too long"]


# A child process that is not what it should be


@pytest.mark.parametrize("says", ["", "not a reply at all", r"\0\0\0\3[1,", r"\377\377\377\377", r"\0\0\0\2[]"])
def test_nonsense_from_the_child_costs_one_file(tmp_path, monkeypatch, says):
    (tmp_path / "a.html").write_text("<p>snow</p>")
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\nprintf '{says}'\ncat >/dev/null\n")
    fake.chmod(0o755)
    broken = Parser(max_seconds=60 if says else 1)
    monkeypatch.setattr(sys, "executable", str(fake))
    (entry,) = broken.read_file(tmp_path / "a.html", "a", "html")
    assert isinstance(entry, Skipped)
    monkeypatch.undo()
    broken.max_seconds = 60
    (document,) = broken.read_file(tmp_path / "a.html", "a", "html")
    assert document == Document("a", "a", "snow", str(tmp_path / "a.html"))
    broken.close()


def test_abandoned_rows_are_not_taken_for_the_next_file(tmp_path):
    great = parquet(tmp_path / "a.parquet", id=list(range(5000)), text=[TEXT * 100] * 5000)
    small = parquet(tmp_path / "b.parquet", id=[7], text=["snow"])
    reader = Parser()
    rows = reader.read_rows(great, "parquet")
    assert next(rows).id == "0"
    rows.close()
    assert [row.id for row in reader.read_rows(small, "parquet")] == ["7"]
    reader.close()
