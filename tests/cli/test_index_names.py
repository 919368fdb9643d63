"""Indexes have names, are listed, and are not replaced without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ragx.index.names import default_index, index_folder, named_indexes
from tests.helpers.command import Run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ragx's home without indexes, and with the models that are at hand."""
    from ragx.util.folders import cache_home

    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(cache_home() / "models")
    monkeypatch.setenv("RAGX_HOME", str(home))
    monkeypatch.delenv("RAGX_INDEX", raising=False)
    monkeypatch.chdir(tmp_path)
    return home


def test_a_word_is_a_name_and_anything_else_a_path(home: Path, tmp_path: Path) -> None:
    named = home / "indexes" / "papers"
    assert index_folder("papers") == named
    assert index_folder("./papers") == Path("papers")
    assert index_folder(Path("papers")) == Path("papers")
    assert index_folder("deep/papers") == Path("deep/papers")
    assert index_folder(str(tmp_path)) == tmp_path
    assert index_folder("..") == Path("..")


def test_an_index_in_the_working_folder_goes_before_a_name(home: Path, tmp_path: Path, index: Path) -> None:
    (tmp_path / "papers").symlink_to(index)
    assert index_folder("papers") == Path("papers")


def test_the_default_is_an_index_or_a_name_in_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_index() == home / "indexes" / "default"
    monkeypatch.setenv("RAGX_INDEX", "papers")
    assert index_folder(None) == home / "indexes" / "papers"


def test_indexes_are_kept_with_the_users_data_and_models_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from ragx.index.names import indexes_home
    from ragx.util.folders import cache_home

    monkeypatch.delenv("RAGX_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert indexes_home() == Path("/data/ragx/indexes")
    assert cache_home() == Path("/cache/ragx")


def test_a_named_index_is_found_from_any_folder_and_listed(
    ragx: Callable[..., Run], home: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ragx("index", "list").code == 0
    assert ragx("index", "build", notes, "--index", "papers").code == 0
    monkeypatch.chdir(notes)
    assert "Snow" in ragx("search", "snow", "--index", "papers", "--method", "bm25").out
    (listed,) = json.loads(ragx("index", "list", "--json").out)
    assert (listed["name"], listed["folder"], listed["documents"]) == ("papers", str(home / "indexes" / "papers"), 4)
    header, line = ragx("index", "list").out.splitlines()
    assert header.split() == ["index", "documents", "passages", "built", "folder"]
    assert line.split()[:2] == ["papers", "4"]
    assert list(named_indexes()) == ["papers"]


def test_an_index_of_other_files_is_replaced_only_on_request(
    ragx: Callable[..., Run], home: Path, notes: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("Old ice.")
    assert ragx("index", "build", notes).code == 0
    assert ragx("index", "build", notes).code == 0
    refused = ragx("index", "build", tmp_path / "other.txt")
    assert refused.code == 2
    assert "--replace" in refused.err
    assert json.loads(ragx("index", "info", "--json").out)["documents"] == 4
    assert ragx("index", "build", tmp_path / "other.txt", "--replace").code == 0
    assert json.loads(ragx("index", "info", "--json").out)["documents"] == 1
