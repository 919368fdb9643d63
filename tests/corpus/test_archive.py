"""The files in zip archives are read like others, if the user says so, and nothing in an archive does harm."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import zipfile
from pathlib import Path

import pytest

from ragx.corpus import archive
from tests.helpers.office import write_parts


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_is_read_like_the_file_in_it(tmp_path, read, suffix):
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pyarrow_compress}[suffix]
    folder = tmp_path / "corpus"
    folder.mkdir()
    files = {
        "notes.txt": b"Snow is white.",
        "page.md": b"# Ice\n\nIce is blue.",
        "changelog.Debian": b"mill (1.0) stable",
        "mill.1": b".TH MILL 1\n.SH NAME\nmill - grinds\n",
        "backup.tar": b"tar",
        "old.zip": b"PK",
        "photo.png": b"png",
    }
    for name, data in files.items():
        (folder / f"{name}{suffix}").write_bytes(compress(data))
    documents, skipped = read(folder)
    names = ["changelog.Debian", "mill.1", "notes.txt", "page.md"]
    assert [document.id for document in documents] == [f"{name}{suffix}/{name}" for name in names]
    assert documents[2].text == "Snow is white."
    assert documents[3].headings
    assert [document.source for document in documents] == [str(folder / f"{name}{suffix}") for name in names]
    left_out = {f"{name}{suffix}" for name in ("backup.tar", "old.zip", "photo.png")}
    assert {Path(each.source).name for each in skipped} == left_out
    assert all(each.unsupported for each in skipped)


def test_a_damaged_compressed_file_is_named(tmp_path, read):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"Snow is white. " * 100)[:-20])
    documents, (skipped,) = read(tmp_path)
    assert documents == []
    assert skipped.unreadable


def test_a_compressed_bomb_is_not_unpacked(tmp_path, read, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    documents, (skipped,) = read(tmp_path)
    assert documents == []
    assert "unpacks to more than 1 MB" in skipped.reason


def pyarrow_compress(data: bytes) -> bytes:
    import pyarrow

    return pyarrow.Codec("zstd").compress(data, asbytes=True)


def test_archives_are_read_only_on_demand(tmp_path, read):
    path = write_parts(tmp_path / "a.zip", {"b.txt": "Snow."})
    for source in (path, tmp_path):
        documents, (skipped,) = read(source)
        assert documents == []
        assert "--archives" in skipped.reason


def test_the_files_of_an_archive_have_its_name_before_theirs(tmp_path, read, write_docx):
    word = write_docx(tmp_path / "c.docx", "Ice.").read_bytes()
    word_path = tmp_path / "c.docx"
    word_path.unlink()
    rows = "".join(json.dumps({"id": f"row{number}", "text": f"Rain {number}"}) + "\n" for number in range(2))
    parts = {"z/b.txt": "Snow.", "c.docx": word, "rows.jsonl": rows + "{\n", "empty/": "", ".hidden/a.txt": "no"}
    parts |= {"__MACOSX/b.txt": "no", "photo.png": "x", "inner.zip": "x", "d.docx": "no Word file", "e.txt": ""}
    path = write_parts(tmp_path / "a.zip", parts)
    documents, skipped = read(tmp_path, archives=True)
    found = {document.id: (document.title, document.text) for document in documents}
    assert found == {
        "a.zip/c.docx": ("c", "Ice."),
        "row0": ("", "Rain 0"),
        "row1": ("", "Rain 1"),
        "a.zip/z/b.txt": ("b", "Snow."),
    }
    assert {document.source for document in documents} == {str(path)}
    reasons = {entry.source: entry.reason for entry in skipped}
    assert sorted(reasons) == [
        f"{path}/{name}" for name in ("d.docx", "e.txt", "inner.zip", "photo.png", "rows.jsonl:3")
    ]
    assert "is not a Word document" in reasons[f"{path}/d.docx"]
    assert "archive in an archive" in reasons[f"{path}/inner.zip"]


def test_the_time_of_a_file_is_that_in_the_archive(tmp_path, read):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(zipfile.ZipInfo("a.txt", (2024, 2, 29, 12, 0, 0)), "Snow.")
        packed.writestr(zipfile.ZipInfo("b.txt", (1980, 0, 0, 0, 0, 0)), "Ice.")
    (first, _), _ = read(tmp_path, archives=True)
    assert json.loads(first.metadata)["modified"] == "2024-02-29T12:00:00+00:00"


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("../../up.txt", "up.txt"),
        ("/etc/up.txt", "etc/up.txt"),
        ("C:\\Users\\up.txt", "C_/Users/up.txt"),
        ("a//./b/up.txt", "a/b/up.txt"),
        ("漢" * 200 + ".txt", "漢" * 200 + ".txt"),
        ("new\nline.txt", "new_line.txt"),
    ],
)
def test_names_lead_nowhere(tmp_path, read, name, id):
    (tmp_path / "in").mkdir()
    path = write_parts(tmp_path / "in" / "a.zip", {name: "Snow."})
    (document,), skipped = read(path, archives=True)
    assert (document.id, document.text, skipped) == (f"a.zip/{id}", "Snow.", [])
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["a.zip"]
    assert not Path("/etc/up.txt").exists()


def test_names_in_utf8_without_the_flag(tmp_path, read):
    path = write_parts(tmp_path / "a.zip", {"Mühle.txt": "Snow."})
    data = path.read_bytes()  # the flag is in the local header and in the directory
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature) + offset
        data = data[:at] + struct.pack("<H", 0) + data[at + 2 :]
    path.write_bytes(data)
    (document,), _ = read(path, archives=True)
    assert document.id == "a.zip/Mühle.txt"


def test_links_and_repeated_names(tmp_path, read):
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
        packed.writestr("b.txt", "Snow.")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("b.txt", "Ice.")
    (document,), (skipped,) = read(tmp_path, archives=True)
    assert document.text == "Snow."
    assert "name of another file" in skipped.reason


def test_bombs_and_encrypted_files(tmp_path, read, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    path = write_parts(tmp_path / "a.zip", {"a.txt": "Snow.", "b.txt": b"\0" * (2 << 20), "c.txt": "Ice."})
    documents, (skipped,) = read(path, archives=True)
    assert [document.text for document in documents] == ["Snow."]
    assert "unpacks to more than 1 MB" in skipped.reason
    write_parts(path, {"a.txt": "Snow."})
    data = path.read_bytes()
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature) + offset
        data = data[:at] + struct.pack("<H", 1) + data[at + 2 :]
    path.write_bytes(data)
    _, (skipped,) = read(path, archives=True)
    assert "is encrypted" in skipped.reason
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    write_parts(path, {f"{number}.txt": "Snow." for number in range(3)})
    _, (skipped,) = read(path, archives=True)
    assert "more than 2 files" in skipped.reason


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_damaged_archive_is_named(tmp_path, read, keep):
    path = write_parts(tmp_path / "a.zip", {"a.txt": "Snow. " * 100, "b.txt": "Ice."})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    documents, (skipped,) = read(path, archives=True)
    assert documents == []
    assert (skipped.source, skipped.unreadable) == (str(path), True)


def test_a_damaged_file_in_an_archive_costs_itself(tmp_path, read):
    path = write_parts(tmp_path / "a.zip", {"a.txt": "Snow. " * 100, "b.txt": "Ice."})
    data = path.read_bytes()
    path.write_bytes(data[:40] + b"\xff" * 8 + data[48:])
    documents, (skipped,) = read(path, archives=True)
    assert [document.text for document in documents] == ["Ice."]
    assert "cannot be unpacked" in skipped.reason
