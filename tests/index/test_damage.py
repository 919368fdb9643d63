"""Damaged files in an index folder are named before they can cause wrong answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ragx.errors import IndexFolderError
from ragx.index import Index, collect_garbage, read_manifest, remove, repair_index, verify
from ragx.index.manifest import load_manifest, read_current
from tests.helpers.small_indexes import SNOW, SOIL, build, texts_of


def all_files(folder: Path) -> list[str]:
    return sorted(read_manifest(folder).files)


def test_verify_accepts_an_intact_index(folder: Path) -> None:
    verify(folder)


def test_a_flipped_bit_in_any_file_is_found_and_named(folder: Path) -> None:
    for name in all_files(folder):
        path = folder / "gen-0001" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(IndexFolderError, match=f"{path} is damaged") as error:
            verify(folder)
        assert str(error.value).count("gen-0001") == 1
        path.write_bytes(content)
    verify(folder)


def test_a_generation_deleted_during_a_read_is_replaced_by_the_next(folder: Path) -> None:
    def read(generation: Path) -> str:
        if generation.name == "gen-0001":
            build(folder, SOIL)
            collect_garbage(folder, quiet=True)
        load_manifest(generation)
        return generation.name

    assert read_current(folder, read) == "gen-0002"


def test_opening_names_truncated_and_missing_files(folder: Path) -> None:
    for name in all_files(folder):
        path = folder / "gen-0001" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        for check in (Index.open, verify):
            with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
                check(folder)
        path.unlink()
        for check in (Index.open, verify):
            with pytest.raises(IndexFolderError, match=f"cannot read {path}"):
                check(folder)
        path.write_bytes(content)
    Index.open(folder)


def test_opening_names_overwritten_files_of_the_right_size(folder: Path) -> None:
    for name in all_files(folder):
        if name.endswith((".arrow", "vectors.npy", "faiss.index")):
            path = folder / "gen-0001" / name
            content = path.read_bytes()
            path.write_bytes(b"\xff" * len(content))
            with pytest.raises(IndexFolderError, match=f"{path} is damaged|cannot read {path}"):
                Index.open(folder)
            path.write_bytes(content)


def test_a_damaged_manifest_is_named(folder: Path) -> None:
    path = folder / "gen-0001" / "manifest.json"
    content = path.read_text()
    edited = [content[:-20], content.replace('"passages": 7', '"passages": 6'), content.replace("words", "sword")]
    for damaged in ("", "[]", "{}", "null", *edited):
        path.write_text(damaged)
        for check in (Index.open, verify, read_manifest):
            with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
                check(folder)


@pytest.mark.parametrize("name", ["", "gen-0001\ngen-0002\n", "../gen-0001\n", "gen-1\n", "MANIFEST-4\n", "\xff\n"])
def test_a_damaged_current_is_named(folder: Path, name: str) -> None:
    (folder / "CURRENT").write_text(name, encoding="latin-1")
    with pytest.raises(IndexFolderError, match="CURRENT is damaged"):
        Index.open(folder)


@pytest.mark.parametrize("name", ["", "gen-0001\ngen-0002\n", "gen-0004\n", "gen-000\xb2\n", "../gen-0001\n", None])
def test_a_damaged_current_is_reported_and_repaired(folder: Path, name: str | None) -> None:
    build(folder, SOIL)
    if name is None:
        (folder / "CURRENT").unlink()
    else:
        (folder / "CURRENT").write_text(name, encoding="latin-1")
        with pytest.raises(IndexFolderError, match="run `ragx index repair`"):
            Index.open(folder)
    assert repair_index(folder, quiet=True) == ["CURRENT"]
    assert texts_of(Index.open(folder)) == SOIL
    assert repair_index(folder, quiet=True) == []


def test_repair_restores_the_newest_intact_generation(folder: Path) -> None:
    build(folder, SOIL)
    (folder / "CURRENT").write_text("gen-0009\n")
    os.truncate(folder / "gen-0002" / "shard-00000" / "vectors.npy", 10)
    assert repair_index(folder, quiet=True) == ["CURRENT"]
    assert texts_of(Index.open(folder)) == SNOW
    os.truncate(folder / "gen-0001" / "shard-00000" / "vectors.npy", 10)
    (folder / "CURRENT").write_text("gen-0009\n")
    with pytest.raises(IndexFolderError, match="rebuild the index"):
        repair_index(folder, quiet=True)


def test_a_missing_index_is_reported(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "missing", Path(__file__)):
        for use in (Index.open, verify, read_manifest, remove):
            with pytest.raises(IndexFolderError, match=f"no index at {missing}"):
                use(missing)
