"""Files that have not changed: an update does not parse them, and holds what it would if it had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ragx.config import Chunking
from ragx.corpus import sources
from ragx.errors import IndexFolderError
from ragx.index import collect_garbage, compact_index, read_manifest, repair_index, update_index
from ragx.index.manifest import SOURCES, write_manifest
from ragx.indexing import file_records as source_files
from ragx.indexing.build import build
from ragx.indexing.update import delete, update
from tests.helpers.notes import TWO_WORDS, LengthEmbedder, built, generation, held, record, rows, write


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that have been parsed."""
    names: list[str] = []
    parse = sources._parse  # the one door to the parsers of all formats

    def noting(path: Path, *arguments: object) -> object:
        names.append(path.name)
        return parse(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "_parse", noting)
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
    built(corpus, tmp_path / "index")
    parsed.clear()
    return tmp_path / "index"


ALL = ["a.txt", "c.jsonl", "d.txt", "b.md"]


def test_files_that_are_as_they_were_are_not_parsed(folder: Path, corpus: Path, parsed: list[str]) -> None:
    before = held(folder)
    (corpus / "deep/b.md").touch()
    report = update(folder)
    assert (report.added, report.deleted, report.unchanged) == (0, 0, len(before))
    assert parsed == []
    assert generation(folder).name == "gen-0001"


def test_a_changed_a_new_and_a_renamed_file_are_parsed_and_no_other(
    folder: Path, corpus: Path, tmp_path: Path, parsed: list[str]
) -> None:
    write(corpus, {"a.txt": "Blue sea. Grey fog.", "new.txt": "New words"})
    (corpus / "deep/b.md").rename(corpus / "deep/e.md")
    update(folder)
    assert parsed == ["a.txt", "e.md", "new.txt"]
    assert held(folder) == held(built(corpus, tmp_path / "anew"))
    parsed.clear()
    update(folder)
    assert parsed == []


def test_a_repeated_text_is_parsed_only_when_it_is_no_longer_one(
    folder: Path, corpus: Path, tmp_path: Path, parsed: list[str]
) -> None:
    """`c.jsonl` and `d.txt` repeat `a.txt`; the first of them takes its place."""
    write(corpus, {"a.txt": "Grey sea."})
    update(folder)
    assert parsed == ["a.txt", "c.jsonl"]
    assert "2#0" in held(folder)
    assert held(folder) == held(built(corpus, tmp_path / "anew"))


def test_a_file_that_is_not_parsed_yields_to_an_earlier_one(folder: Path, corpus: Path, parsed: list[str]) -> None:
    write(corpus, {"0.txt": "Fresh snow"})
    update(folder)
    assert parsed == ["0.txt"]
    assert "1#0" not in held(folder)
    (corpus / "0.txt").unlink()
    update(folder)
    assert parsed == ["0.txt", "c.jsonl"]
    assert held(folder)["1#0"].text == "Fresh snow"


def test_an_id_that_an_earlier_file_takes_is_skipped_and_comes_back(folder: Path, corpus: Path) -> None:
    """Also that of row 3 of `c.jsonl`, of which no passage was indexed."""
    write(corpus, {"b.jsonl": rows(("1", "Warm rain"), ("3", "Thin fog"))})
    skipped = [(each.source, each.reason) for each in update(folder).skipped]
    assert skipped == [(str(corpus / "c.jsonl"), f"its id {id!r} is that of an earlier document") for id in ("1", "3")]
    assert {held(folder)[id].text for id in ("1#0", "3#0")} == {"Warm rain", "Thin fog"}
    (corpus / "b.jsonl").unlink()
    assert update(folder).skipped == []
    assert held(folder)["1#0"].text == "Fresh snow"
    assert "3#0" not in held(folder)


def test_what_was_skipped_is_tried_and_told_again(folder: Path, corpus: Path, parsed: list[str]) -> None:
    write(corpus, {"bad.jsonl": rows(("5", "Good row"), ("6", None))})
    for _ in range(2):
        assert [each.source for each in update(folder).skipped] == [f"{corpus}/bad.jsonl:2"]
    assert parsed == ["bad.jsonl", "bad.jsonl"]


def test_a_file_that_was_written_to_while_it_was_read_is_read_again(
    corpus: Path, tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = sources._parse

    def meddling(path: Path, *arguments: object) -> object:
        if path.name == "a.txt":
            path.write_text("Red sea.")
        return parse(path, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sources, "_parse", meddling)
        folder = built(corpus, tmp_path / "index")
    write(corpus, {"a.txt": "Blue sea."})  # what was hashed before it was parsed
    parsed.clear()
    update(folder)
    assert "a.txt" in parsed
    assert held(folder)["a.txt#0"].text == "Blue sea."


def test_a_deleted_document_is_parsed_again_while_its_file_is_there(
    folder: Path, corpus: Path, parsed: list[str]
) -> None:
    before = held(folder)
    delete(folder, ["1"])
    assert "c.jsonl" not in (generation(folder) / SOURCES).read_text()
    update(folder)
    assert parsed == ["c.jsonl"]
    assert held(folder) == before


def test_what_an_addition_left_is_deleted_by_the_next_update(folder: Path, corpus: Path) -> None:
    """The file is as it was then, but the index holds more of its source than the file gave."""
    write(corpus, {"c.jsonl": rows(("1", "Fresh snow"))})
    update(folder, [corpus], keep=True)
    assert "4#0" in held(folder)
    assert update(folder).deleted == 1
    assert "4#0" not in held(folder)


def test_what_a_program_changed_is_put_right(folder: Path, parsed: list[str]) -> None:
    before = held(folder)
    changed = replace(before["a.txt#0"], text="Red sea.")
    update_index(folder, LengthEmbedder(), add=[changed], delete=["1#0"], quiet=True)
    update(folder)
    assert parsed == ["a.txt", "c.jsonl"]
    assert held(folder) == before


def test_another_place_is_known_beside_the_first(folder: Path, tmp_path: Path, parsed: list[str]) -> None:
    write(tmp_path / "more", {"e.txt": "Warm rain", "f.txt": "Blue sea."})
    for keep in (True, False):
        for _ in range(2):
            update(folder, [tmp_path / "more"], keep=keep)
            update(folder)
    assert parsed == ["e.txt", "f.txt"]


def test_a_file_that_is_reached_by_two_ways_stays_as_a_build_has_it(corpus: Path, tmp_path: Path) -> None:
    (corpus / "link.txt").symlink_to("a.txt")
    build([corpus, corpus / "deep", corpus / "c.jsonl"], tmp_path / "index", TWO_WORDS)
    before = held(tmp_path / "index")
    for text in ("Grey sea.", "Blue sea."):
        write(corpus, {"a.txt": text})
        update(tmp_path / "index")
        build([corpus, corpus / "deep", corpus / "c.jsonl"], tmp_path / "anew", TWO_WORDS)
        assert held(tmp_path / "index") == held(tmp_path / "anew")
    assert held(tmp_path / "index") == before


def test_a_file_of_very_many_duplicates_is_parsed_each_time(
    corpus: Path, tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "MOST_NOTED", 4)
    write(corpus, {"many.jsonl": rows(*((str(n + 10), "Blue sea.") for n in range(5)))})
    folder = built(corpus, tmp_path / "index")
    assert b"many.jsonl" not in (generation(folder) / SOURCES).read_bytes()
    parsed.clear()
    assert update(folder).added == 0
    assert parsed == ["many.jsonl"]


def test_upkeep_keeps_what_is_known(folder: Path, corpus: Path, parsed: list[str]) -> None:
    (corpus / "a.txt").unlink()
    update(folder)
    parsed.clear()
    compact_index(folder, quiet=True)
    collect_garbage(folder, quiet=True)
    update(folder)
    assert parsed == []


def test_an_index_without_a_record_is_read_as_a_whole_once(folder: Path, parsed: list[str]) -> None:
    before = held(folder)
    record(folder, None)
    report = update(folder)
    assert parsed == ALL
    assert (report.added, report.deleted, held(folder)) == (0, 0, before)
    update(folder)
    assert parsed == ALL


@pytest.mark.parametrize("what", ["parsing", "chunking"])
def test_files_are_parsed_again_when_they_might_give_something_else(
    folder: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "parsing":
        monkeypatch.setattr(source_files, "parsing_version", lambda: "another")
    else:
        manifest = read_manifest(folder)
        changed = manifest.settings.model_copy(update={"chunking": Chunking(size=3)})
        write_manifest(manifest.model_copy(update={"settings": changed}), generation(folder))
    update(folder)
    assert parsed == ALL


def test_a_damaged_record_is_named_and_made_again_empty(folder: Path, parsed: list[str]) -> None:
    before = held(folder)
    path = generation(folder) / SOURCES
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IndexFolderError, match=f"{path} is damaged: .*: run `ragx index repair`"):
        update(folder)
    assert repair_index(folder, quiet=True) == [SOURCES]
    assert held(folder) == before
    update(folder)
    assert parsed == ALL
    assert held(folder) == before


def test_a_damaged_record_of_a_large_index_is_not_believed(
    folder: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragx.index.index.READ_WHEN_OPENED", 0)
    path = generation(folder) / SOURCES
    path.write_bytes(path.read_bytes().replace(b"d.txt", b"e.txt"))
    assert update(folder).added == 0
    assert parsed == ALL
    assert repair_index(folder, quiet=True) == [SOURCES]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}\n", b'{"reading": "x"}\n', b"\xff\n", b"[" * 99_999, b'{"reading": 1}']
)
def test_a_record_that_someone_else_wrote_is_not_believed(folder: Path, parsed: list[str], data: bytes) -> None:
    before = held(folder)
    record(folder, data)
    update(folder)
    assert parsed == ALL
    assert held(folder) == before
