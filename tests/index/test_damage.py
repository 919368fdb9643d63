"""Whatever is damaged in an index folder is named, before it can give a wrong answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ragx.errors import IndexFolderError
from ragx.index import Index, collect_garbage, read_manifest, remove, repair_index, verify
from ragx.index.manifest import load_manifest, of_current
from tests.helpers.small_indexes import SNOW, SOIL, build, texts_of


def every_file(folder: Path) -> list[str]:
    return sorted(read_manifest(folder).files)


def test_verify_accepts_what_was_built(folder: Path) -> None:
    verify(folder)


def test_a_flipped_bit_in_any_file_is_found_and_named(folder: Path) -> None:
    for name in every_file(folder):
        path = folder / "gen-0001" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IndexFolderError, match=f"{path} is damaged") as caught:
            verify(folder)
        assert str(caught.value).count("gen-0001") == 1
        path.write_bytes(whole)
    verify(folder)


def test_what_is_deleted_while_it_is_read_is_read_in_the_next_generation(folder: Path) -> None:
    def read(generation: Path) -> str:
        if generation.name == "gen-0001":
            build(folder, SOIL)
            collect_garbage(folder, quiet=True)
        load_manifest(generation)
        return generation.name

    assert of_current(folder, read) == "gen-0002"


def test_a_cut_file_is_named_when_the_index_is_opened(folder: Path) -> None:
    for name in every_file(folder):
        path = folder / "gen-0001" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        for check in (Index.open, verify):
            with pytest.raises(IndexFolderError, match=f"{path} is damaged: {len(whole) - 1:,} bytes instead of"):
                check(folder)
        path.unlink()
        for check in (Index.open, verify):
            with pytest.raises(IndexFolderError, match=f"cannot read {path}: No such file"):
                check(folder)
        path.write_bytes(whole)
    Index.open(folder)


def test_files_of_the_right_size_and_nothing_else_are_named_when_opened(folder: Path) -> None:
    for name in every_file(folder):
        if name.endswith((".arrow", "vectors.npy", "faiss.index")):
            path = folder / "gen-0001" / name
            whole = path.read_bytes()
            path.write_bytes(b"\xff" * len(whole))
            with pytest.raises(IndexFolderError, match=f"{path} is damaged|cannot read {path}"):
                Index.open(folder)
            path.write_bytes(whole)


def test_a_damaged_manifest_is_named(folder: Path) -> None:
    path = folder / "gen-0001" / "manifest.json"
    whole = path.read_text()
    edited = [whole[:-20], whole.replace('"passages": 7', '"passages": 6'), whole.replace("words", "sword")]
    for damaged in ("", "[]", "{}", "null", *edited):
        path.write_text(damaged)
        for check in (Index.open, verify, read_manifest):
            with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
                check(folder)


@pytest.mark.parametrize("name", ["", "gen-0001\ngen-0002\n", "../gen-0001\n", "gen-1\n", "MANIFEST-4\n", "\xff\n"])
def test_a_damaged_current_is_named(folder: Path, name: str) -> None:
    (folder / "CURRENT").write_text(name, encoding="latin-1")
    with pytest.raises(IndexFolderError, match=f"{folder}/CURRENT is damaged"):
        Index.open(folder)


@pytest.mark.parametrize("name", ["", "gen-0001\ngen-0002\n", "gen-0004\n", "gen-000\xb2\n", "../gen-0001\n", None])
def test_a_damaged_current_is_said_and_repaired(folder: Path, name: str | None) -> None:
    build(folder, SOIL)
    if name is None:
        (folder / "CURRENT").unlink()
    else:
        (folder / "CURRENT").write_text(name, encoding="latin-1")
        with pytest.raises(
            IndexFolderError, match=f"{folder}/CURRENT is damaged: it names .*; run `ragx index repair`"
        ):
            Index.open(folder)
    assert repair_index(folder, quiet=True) == ["CURRENT"]
    assert texts_of(Index.open(folder)) == SOIL
    assert repair_index(folder, quiet=True) == []


def test_current_goes_back_to_the_newest_generation_that_is_whole(folder: Path) -> None:
    build(folder, SOIL)
    (folder / "CURRENT").write_text("gen-0009\n")
    os.truncate(folder / "gen-0002" / "shard-00000" / "vectors.npy", 10)
    assert repair_index(folder, quiet=True) == ["CURRENT"]
    assert texts_of(Index.open(folder)) == SNOW
    os.truncate(folder / "gen-0001" / "shard-00000" / "vectors.npy", 10)
    (folder / "CURRENT").write_text("gen-0009\n")
    with pytest.raises(IndexFolderError, match=f"no generation in {folder} is whole: rebuild the index"):
        repair_index(folder, quiet=True)


def test_no_index_is_one_line(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "missing", Path(__file__)):
        for use in (Index.open, verify, read_manifest, remove):
            with pytest.raises(IndexFolderError, match=rf"no index at {missing}( \(build one |$)"):
                use(missing)
