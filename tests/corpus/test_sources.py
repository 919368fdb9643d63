"""Files of every format, folders and datasets."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import psutil
import pytest

from ragx.config import DatasetSource
from ragx.corpus import Skipped
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import find_files
from ragx.errors import CorpusError


@pytest.fixture
def corpus(tmp_path, write_pdf, write_docx):
    """A folder with a file of each format, and others."""
    import pyarrow
    import pyarrow.parquet

    root = tmp_path / "corpus"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("Plain snow.")
    (root / "b.md").write_text("# Marked\nsnow")
    (root / "c.rst").write_text("Structured\n==========\nsnow")
    (root / "d.html").write_text("<title>Hyper</title><p>snow</p>")
    (root / "e.HTM").write_text("<title>Loud</title><p>SNOW</p>")
    write_pdf(root / "f.pdf", "Portable snow.")
    write_docx(root / "g.docx", "Word snow.")
    (root / "h.jsonl").write_text('{"id": 1, "text": "Row snow."}\n')
    (root / "i.jsonl.gz").write_bytes(gzip.compress(b'{"id": 2, "text": "Packed snow."}\n'))
    pyarrow.parquet.write_table(pyarrow.table({"id": ["p"], "text": ["Column snow."]}), root / "j.parquet")
    (root / "sub" / "psgs_w100.tsv").write_text('id\ttext\ttitle\n3\t"Passage ""snow""."\tP\n')
    (root / "sub" / "wiki.xml").write_text(
        "<mediawiki><page><title>Wiki</title><ns>0</ns><revision><text>[[Wiki]] snow.</text></revision></page>"
        "</mediawiki>"
    )
    for unknown in ("image.png", "other.bin", "archive.gz.part", ".hidden.txt"):
        (root / unknown).write_text("unknown")
    (root / "sub" / "prices.csv").write_text("Room,Price\n12,45\n")
    (root / "sub" / "run.py").write_text("print('snow')\n")
    (root / "packed.gz").write_bytes(gzip.compress(b"unknown"))
    return root


def test_a_folder_of_every_format(corpus, read):
    documents, skipped = read(corpus)
    assert [(document.id, document.title, document.text.strip()) for document in documents] == [
        ("a.txt", "a", "Plain snow."),
        ("b.md", "Marked", "# Marked\nsnow"),
        ("c.rst", "Structured", "Structured\n==========\nsnow"),
        ("d.html", "Hyper", "snow"),
        ("e.HTM", "Loud", "SNOW"),
        ("f.pdf", "f", "Portable snow."),
        ("g.docx", "g", "Word snow."),
        ("1", "", "Row snow."),
        ("2", "", "Packed snow."),
        ("p", "", "Column snow."),
        ("sub/prices.csv", "prices", "Room: 12; Price: 45"),
        ("3", "P", 'Passage "snow".'),
        ("sub/run.py", "run.py", "print('snow')"),
        ("Wiki", "Wiki", "Wiki snow."),
    ]
    assert [document.whole for document in documents] == [document.id == "3" for document in documents]
    assert all(Path(document.source).is_absolute() and Path(document.source).is_file() for document in documents)
    assert all(unicodedata.is_normalized("NFC", document.text) for document in documents)
    assert len(skipped) == 4
    assert all(each.unsupported for each in skipped)


def test_the_number_of_processes_does_not_change_what_is_read(corpus, read):
    for n in range(20):
        (corpus / f"d{n}.html").write_text(f"<p>snow {n}</p>")
    assert read(corpus, limits={"workers": 1}) == read(corpus, limits={"workers": 3})


def test_closing_ends_all_processes_in_the_middle_of_a_file(tmp_path):
    for n in range(4):
        (tmp_path / f"{n}.html").write_text(f"<html><body><p>{'<span>a </span>' * 200_000}")
    before = set(psutil.Process().children())
    reader = FileReader(2)
    for file in find_files([tmp_path]):
        reader.start(file)
    while len(set(psutil.Process().children()) - before) < 2:
        time.sleep(0.01)
    reader.close()
    assert not set(psutil.Process().children()) - before


def test_include_and_exclude(corpus, read):
    documents, skipped = read(corpus, include=["*.md", "sub/*", "*.png"], exclude=["*.xml", "*.py"])
    assert [document.id for document in documents] == ["b.md", "sub/prices.csv", "3"]
    assert [Path(entry.source).name for entry in skipped] == ["image.png"]  # included, but of an unsupported format


def test_a_relative_path_gives_an_absolute_source(corpus, read, monkeypatch):
    monkeypatch.chdir(corpus.parent)
    documents, _ = read(Path("corpus/../corpus"), include=["a.txt"])
    assert [(document.id, document.source) for document in documents] == [("a.txt", str(corpus / "a.txt"))]


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {path}")


def test_ids_of_several_folders_begin_with_their_names(tmp_path, read):
    write(tmp_path / "x" / "docs" / "a.txt", tmp_path / "x" / "notes" / "a.txt", tmp_path / "y" / "docs" / "a.txt")
    documents, skipped = read(tmp_path / "x" / "docs", tmp_path / "x" / "notes")
    assert [document.id for document in documents] == ["docs/a.txt", "notes/a.txt"]
    documents, skipped = read(tmp_path / "y" / "docs", tmp_path / "x" / "docs", tmp_path / "y" / "docs")
    assert [document.id for document in documents] == ["y/docs/a.txt", "x/docs/a.txt"]
    assert skipped == []


def test_files_of_the_same_name_get_distinct_ids(tmp_path, read):
    write(tmp_path / "x" / "a.txt", tmp_path / "y" / "a.txt", tmp_path / "b.txt")
    assert [document.id for document in read(tmp_path / "x" / "a.txt", tmp_path / "b.txt")[0]] == ["a.txt", "b.txt"]
    documents, _ = read(tmp_path / "x" / "a.txt", tmp_path / "y" / "a.txt")
    assert [document.id for document in documents] == ["x/a.txt", "y/a.txt"]


def test_a_path_that_does_not_exist_is_an_error_before_anything_is_read(tmp_path, read):
    write(tmp_path / "a.txt")
    with pytest.raises(CorpusError, match="gone"):
        read(tmp_path / "a.txt", tmp_path / "gone")


@pytest.mark.parametrize("name", ["photo.png", "noextension", "other.gz"])
def test_a_named_file_of_an_unsupported_format_is_skipped(tmp_path, read, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"x") if name.endswith(".gz") else b"\x89PNG")
    documents, (skipped,) = read(path)
    assert documents == []
    assert skipped.source == str(path)
    assert "unsupported format" in skipped.reason
    assert not skipped.unsupported


@pytest.mark.parametrize(
    "name", ["README", "LICENSE.MIT", "changes", "Makefile", "Dockerfile.dev", "setup.cfg", "a.toml", "a.ini", "a.adoc"]
)
def test_well_known_files_of_plain_text(tmp_path, read, name):
    (tmp_path / name).write_text("The key is red.")
    (document,), skipped = read(tmp_path)
    assert (document.id, document.text, skipped) == (name, "The key is red.", [])


def test_a_well_known_name_with_another_suffix_and_binary_content_is_unsupported(tmp_path, read):
    (tmp_path / "license.png").write_bytes(b"\x89PNG\0")
    documents, (skipped,) = read(tmp_path)
    assert (documents, skipped.unsupported) == ([], True)


def test_plain_text_of_an_unknown_suffix_is_read_if_it_is_named(tmp_path, read):
    path = tmp_path / "notes.mine"
    path.write_text("The key is red.")
    assert [document.text for document in read(path)[0]] == ["The key is red."]
    assert read(tmp_path)[0] == []


def test_a_named_pipe_is_skipped(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.txt")
    assert read(tmp_path / "pipe.txt") == ([], [Skipped(str(tmp_path / "pipe.txt"), "is not a regular file")])


def test_damaged_and_unreadable_files_are_skipped(tmp_path, read):
    write(tmp_path / "z.txt")
    (tmp_path / "a.docx").write_bytes(b"PK\3\4 not really")
    (tmp_path / "b.xml.gz").write_bytes(gzip.compress(b"<mediawiki>")[:12])
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    (tmp_path / "d.txt").write_bytes(b"a\0b")
    reasons = ["Word document", "cannot be read", "cannot be read", "binary"]
    if sys.platform == "linux":
        (tmp_path / "e.txt").symlink_to("/proc/self/mem")  # a regular file whose first byte nobody can read
        reasons.append("cannot be read: Input/output error")
    documents, skipped = read(tmp_path)
    assert [document.id for document in documents] == ["z.txt"]
    assert [Path(entry.source).name[0] for entry in skipped] == list("abcde"[: len(reasons)])
    assert all(reason in entry.reason for reason, entry in zip(reasons, skipped, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are not UTF-8")
def test_a_file_name_that_is_not_utf_8_gives_an_id_that_is(tmp_path, read):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("snow")
    (tmp_path / os.fsdecode(b"caf\xe9.html")).write_text("<p>snow</p>")
    documents, skipped = read(tmp_path)
    assert [document.id for document in documents] == ["caf\ufffd.html", "caf\ufffd.txt"]
    assert all(document.source.encode() and document.title.encode() for document in documents)
    assert skipped == []


def test_importing_the_corpus_loads_no_heavy_library():
    heavy = {"torch", "transformers", "datasets", "pyarrow", "lxml", "pypdfium2", "chardet"}
    code = f"import sys, ragx.corpus; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [{"key": 1, "name": "A", "body": "cafe\u0301"}, {"key": 2, "name": None, "body": "b"}, {"key": 3}]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"dataset": str(folder), "id_column": "key", "title_column": "name", "text_column": "body"}


def test_a_dataset_in_a_local_folder(dataset, read):
    documents, skipped = read(DatasetSource(**dataset))
    name = dataset["dataset"]
    assert [(d.id, d.title, d.text, d.source) for d in documents] == [("1", "A", "café", name), ("2", "", "b", name)]
    assert skipped == [Skipped(f"{name}:3", "has no text")]


def test_the_title_column_of_a_dataset_is_optional_unless_named(dataset, read):
    del dataset["title_column"]
    assert [document.title for document in read(DatasetSource(**dataset))[0]] == ["", ""]
    with pytest.raises(CorpusError, match="'headline'"):
        read(DatasetSource(**dataset, title_column="headline"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "/nowhere/rows"}, "/nowhere/rows"),
        ({"split": "test"}, "test"),
        ({"config": "other"}, "other"),
        ({"id_column": "id"}, "no column 'id'"),
        ({"text_column": "text"}, "no column 'text'"),
    ],
)
def test_a_bad_dataset_is_one_line_before_anything_is_read(dataset, read, change, message):
    with pytest.raises(CorpusError, match=message) as error:
        read(DatasetSource(**dataset | change))
    assert "\n" not in str(error.value)
