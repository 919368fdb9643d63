"""An update reuses unchanged files without parsing them, and gives the same index as if it had."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ragx.config import Chunking
from ragx.corpus import Document, Skipped
from ragx.corpus.reading import FileReader
from ragx.corpus.sources import SourceFile
from ragx.errors import IndexFolderError
from ragx.index import collect_garbage, compact_index, read_manifest, repair_index, update_index
from ragx.index.manifest import SOURCES, write_manifest
from ragx.indexing.build import build
from ragx.indexing.delete import delete
from ragx.indexing.update import update
from tests.helpers.notes import TWO_WORDS, LengthEmbedder, generation, index_notes, passages_in, record, rows, write


class Parsed(list[str]):
    """The names of the files that have been parsed; `before_each` gets each path just before."""

    before_each: Callable[[Path], object] = staticmethod(lambda path: None)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    names = Parsed()
    start = FileReader.start

    def record_name(reader: FileReader, file: SourceFile) -> Iterator[Document | Skipped]:
        names.before_each(file.path)
        names.append(file.path.name)
        return start(reader, file)

    monkeypatch.setattr(FileReader, "start", record_name)
    return names


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    c = rows(("1", "Fresh snow"), ("2", "Blue sea."), ("3", ""), ("4", "Old ice. Old ice."))
    b = "# Soil\n\nDark soil absorbs most of the light."
    write(folder, {"a.txt": "Blue sea.", "deep/b.md": b, "c.jsonl": c, "d.txt": "Blue sea."})
    return folder


@pytest.fixture
def folder(corpus: Path, tmp_path: Path, parsed: list[str]) -> Path:
    index_notes(corpus, tmp_path / "index")
    parsed.clear()
    return tmp_path / "index"


def documents(folder: Path) -> set[str]:
    return {passage.document for passage in passages_in(folder).values()}


ALL = ["a.txt", "c.jsonl", "d.txt", "b.md"]
REPEATING = ["c.jsonl", "d.txt"]
"""Files with a text that an earlier file has too; `c.jsonl` also has an empty row and repeats itself."""


def test_unchanged_files_are_not_parsed_unless_they_lost_a_passage(
    folder: Path, corpus: Path, parsed: list[str]
) -> None:
    (corpus / "deep/b.md").touch()
    report = update(folder)
    assert (report.added, report.deleted, report.unchanged) == (0, 0, len(passages_in(folder)))
    assert parsed == REPEATING
    assert generation(folder).name == "gen-0001"


def test_a_changed_a_new_and_a_renamed_file_are_parsed_and_no_other(
    folder: Path, corpus: Path, tmp_path: Path, parsed: list[str]
) -> None:
    write(corpus, {"a.txt": "Blue sea. Grey fog.", "new.txt": "New words"})
    (corpus / "deep/b.md").rename(corpus / "deep/e.md")
    update(folder)
    assert parsed == ["a.txt", *REPEATING, "e.md", "new.txt"]
    assert passages_in(folder) == passages_in(index_notes(corpus, tmp_path / "rebuilt"))
    parsed.clear()
    update(folder)
    assert parsed == REPEATING


def test_a_repeated_text_replaces_a_first_one_that_vanished(folder: Path, corpus: Path, tmp_path: Path) -> None:
    write(corpus, {"a.txt": "Grey sea."})
    update(folder)
    assert "2#0" in passages_in(folder)
    assert passages_in(folder) == passages_in(index_notes(corpus, tmp_path / "rebuilt"))


def test_a_reused_file_loses_a_text_to_an_earlier_file_and_gets_it_back(
    folder: Path, corpus: Path, parsed: list[str]
) -> None:
    write(corpus, {"0.txt": "Dark soil"})
    update(folder)
    assert parsed == ["0.txt", *REPEATING]
    assert "deep/b.md#1" not in passages_in(folder)
    (corpus / "0.txt").unlink()
    parsed.clear()
    update(folder)
    assert parsed == [*REPEATING, "b.md"]
    assert passages_in(folder)["deep/b.md#1"].text == "Dark soil"


def test_a_row_whose_id_an_earlier_file_takes_has_another_until_that_file_is_gone(folder: Path, corpus: Path) -> None:
    write(corpus, {"b.jsonl": rows(("1", "Warm rain"), ("3", "Thin fog"))})
    report = update(folder)
    assert report.skipped == []
    assert ["c.jsonl" in note for note in report.notes] == [True]
    texts = {id: passage.text for id, passage in passages_in(folder).items()}
    assert texts.items() >= {"1#0": "Warm rain", "3#0": "Thin fog", "c.jsonl/1#0": "Fresh snow"}.items()
    (corpus / "b.jsonl").unlink()
    assert update(folder).notes == []
    assert passages_in(folder)["1#0"].text == "Fresh snow"
    assert "c.jsonl/1#0" not in passages_in(folder)


def test_a_file_with_a_skipped_row_is_parsed_and_reported_again(folder: Path, corpus: Path, parsed: list[str]) -> None:
    write(corpus, {"bad.jsonl": rows(("5", "Good row"), ("6", None))})
    for _ in range(2):
        assert [each.source for each in update(folder).skipped] == [f"{corpus}/bad.jsonl:2"]
    assert parsed.count("bad.jsonl") == 2


def test_what_a_document_lacks_is_reported_without_parsing_it_again(
    folder: Path, corpus: Path, parsed: list[str]
) -> None:
    text = " ".join(f"weiß{number}" for number in range(40))
    (corpus / "e.txt").write_bytes(text.encode() + b"\xff")
    for _ in range(3):
        (skipped,) = update(folder).skipped
        assert (skipped.source, skipped.partial) == (f"{corpus}/e.txt", True)
        assert "1 byte" in skipped.reason
    assert parsed.count("e.txt") == 1


def test_a_file_that_was_written_to_while_it_was_read_is_read_again(
    corpus: Path, tmp_path: Path, parsed: Parsed
) -> None:
    parsed.before_each = lambda path: path.name == "a.txt" and path.write_text("Red sea.")
    folder = index_notes(corpus, tmp_path / "index")
    write(corpus, {"a.txt": "Blue sea."})  # the bytes that were hashed
    del parsed.before_each
    parsed.clear()
    update(folder)
    assert "a.txt" in parsed
    assert passages_in(folder)["a.txt#0"].text == "Blue sea."


def test_a_deleted_document_stays_deleted_until_its_file_changes(folder: Path, corpus: Path) -> None:
    deleted = {"deep/b.md", "4"}
    assert deleted < documents(folder)
    delete(folder, deleted)
    update(folder)
    assert not deleted & documents(folder)
    record(folder, (generation(folder) / SOURCES).read_bytes().replace(b'{"reading":"', b'{"reading":"another '))
    update(folder)  # parses every file
    assert not deleted & documents(folder)
    write(corpus, {"deep/b.md": "Other text"})
    update(folder)
    assert deleted & documents(folder) == {"deep/b.md"}


def test_passages_that_an_addition_kept_are_deleted_by_the_next_update(folder: Path, corpus: Path) -> None:
    """The file is unchanged, but the index still holds passages that it no longer gives."""
    write(corpus, {"c.jsonl": rows(("1", "Fresh snow"))})
    update(folder, [corpus], keep=True)
    assert "4#0" in passages_in(folder)
    assert update(folder).deleted == 1
    assert "4#0" not in passages_in(folder)


def test_after_a_program_changed_passages_every_file_is_parsed(folder: Path, parsed: list[str]) -> None:
    before = passages_in(folder)
    changed = replace(before["a.txt#0"], text="Red sea.")
    update_index(folder, LengthEmbedder(), add=[changed], delete=["1#0"], quiet=True)
    update(folder)
    assert parsed == ALL
    assert passages_in(folder) == before


def test_files_of_several_folders_are_recorded(folder: Path, tmp_path: Path, parsed: list[str]) -> None:
    write(tmp_path / "more", {"e.txt": "Warm rain", "f.txt": "Blue sea."})
    for keep in (True, False):
        for _ in range(2):
            update(folder, [tmp_path / "more"], keep=keep)
            update(folder)
    assert parsed.count("e.txt") == 1


def test_a_file_reached_by_two_paths_is_treated_as_in_a_build(corpus: Path, tmp_path: Path) -> None:
    (corpus / "link.txt").symlink_to("a.txt")
    build([corpus, corpus / "deep", corpus / "c.jsonl"], tmp_path / "index", TWO_WORDS)
    before = passages_in(tmp_path / "index")
    modified = (corpus / "a.txt").stat().st_mtime
    for text in ("Grey sea.", "Blue sea."):
        write(corpus, {"a.txt": text})
        os.utime(corpus / "a.txt", (modified, modified))
        update(tmp_path / "index")
        build([corpus, corpus / "deep", corpus / "c.jsonl"], tmp_path / "rebuilt", TWO_WORDS)
        assert passages_in(tmp_path / "index") == passages_in(tmp_path / "rebuilt")
    assert passages_in(tmp_path / "index") == before


def test_upkeep_keeps_the_records(folder: Path, corpus: Path, parsed: list[str]) -> None:
    write(corpus, {"c.jsonl": rows(("1", "Fresh snow"))})
    update(folder)
    parsed.clear()
    compact_index(folder, quiet=True)
    collect_garbage(folder, quiet=True)
    update(folder)
    assert parsed == ["d.txt"]


def test_an_index_without_records_is_read_whole_once(folder: Path, parsed: list[str]) -> None:
    before = passages_in(folder)
    record(folder, None)
    report = update(folder)
    assert parsed == ALL
    assert (report.added, report.deleted, passages_in(folder)) == (0, 0, before)
    update(folder)
    assert parsed == [*ALL, *REPEATING]


@pytest.mark.parametrize("what", ["parsing", "chunking"])
def test_files_are_parsed_again_when_they_might_give_something_else(folder: Path, parsed: list[str], what: str) -> None:
    if what == "parsing":
        _, *lines = (generation(folder) / SOURCES).read_bytes().splitlines(keepends=True)
        record(folder, b"".join([b'{"reading":"another"}\n', *lines]))
    else:
        manifest = read_manifest(folder)
        changed = manifest.settings.model_copy(update={"chunking": Chunking(size=3)})
        write_manifest(manifest.model_copy(update={"settings": changed}), generation(folder))
    update(folder)
    assert parsed == ALL


def test_a_damaged_record_is_named_and_replaced_by_an_empty_one(folder: Path, parsed: list[str]) -> None:
    before = passages_in(folder)
    path = generation(folder) / SOURCES
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IndexFolderError, match="is damaged"):
        update(folder)
    assert repair_index(folder, quiet=True) == [SOURCES]
    assert passages_in(folder) == before
    update(folder)
    assert parsed == ALL
    assert passages_in(folder) == before


@pytest.mark.usefixtures("unread_when_opened")
def test_a_damaged_record_of_a_large_index_is_ignored(folder: Path, parsed: list[str]) -> None:
    path = generation(folder) / SOURCES
    path.write_bytes(path.read_bytes().replace(b"a.txt", b"e.txt"))
    assert update(folder).added == 0
    assert parsed == ALL
    assert repair_index(folder, quiet=True) == [SOURCES]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}\n", b'{"reading": "x"}\n', b"\xff\n", b"[" * 99_999, b'{"reading": 1}']
)
def test_a_malformed_record_is_ignored(folder: Path, parsed: list[str], data: bytes) -> None:
    before = passages_in(folder)
    record(folder, data)
    update(folder)
    assert parsed == ALL
    assert passages_in(folder) == before
