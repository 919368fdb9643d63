"""A malicious index with valid checksums cannot reach files outside its folder, and causes one-line errors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index import Index, build_index, collect_garbage, read_manifest, repair_index, update_index, verify
from tests.helpers.toy_embedders import WordEmbedder, passages

TEXTS = [f"snow {n} reflects" for n in range(4)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "index"
    build_index(passages(TEXTS), folder, WordEmbedder(), IndexSettings(shard_size=3), quiet=True)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def manifest(folder: Path) -> Path:
    return folder / "gen-0001" / "manifest.json"


def with_checksum(values: dict[str, Any]) -> str:
    """A manifest with a valid checksum, as described in `indexes/README.md`."""
    values = {key: value for key, value in values.items() if key != "checksum"}
    canonical = json.dumps(values, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return json.dumps(values | {"checksum": hashlib.sha256(canonical.encode()).hexdigest()})


USES: list[Callable[[Path], object]] = [
    Index.open,
    verify,
    read_manifest,
    lambda folder: update_index(folder, delete=["doc0#0"], quiet=True),
    lambda folder: repair_index(folder, quiet=True),
    lambda folder: collect_garbage(folder, quiet=True),
]


@pytest.mark.parametrize(
    "name", ["../../victim", "/victim", "shard-00000/../../../victim", "..", ".", "", "a//b", "a\0b", ".hidden", "a\n"]
)
def test_file_names_cannot_lead_out_of_the_folder(folder: Path, name: str) -> None:
    victim = folder.parent / "victim"
    victim.write_text("mine")
    values = json.loads(manifest(folder).read_text())
    name = str(victim) if name == "/victim" else name
    values["files"][name] = {"size": 4, "sha256": hashlib.sha256(b"mine").hexdigest()}
    manifest(folder).write_text(with_checksum(values))
    for use in USES:
        with pytest.raises(IndexFolderError, match=f"{manifest(folder)} is damaged"):
            use(folder)
    assert victim.read_text() == "mine"


def test_a_pipe_instead_of_a_file_is_refused(folder: Path) -> None:
    path = folder / "gen-0001" / "shard-00000" / "vectors.npy"
    path.unlink()
    os.mkfifo(path)
    for use in (Index.open, verify):
        with pytest.raises(IndexFolderError, match="not a regular file"):
            use(folder)


@pytest.mark.parametrize("name", ["CURRENT", "gen-0001/manifest.json"])
def test_a_pipe_or_device_instead_of_metadata_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.unlink()
    os.mkfifo(path)
    for use in (Index.open, verify, read_manifest):
        with pytest.raises(IndexFolderError, match="not a regular file"):
            use(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    for use in (Index.open, verify, read_manifest):
        with pytest.raises(IndexFolderError, match="not a regular file"):
            use(folder)


def test_a_manifest_cannot_allocate_memory(folder: Path) -> None:
    values = json.loads(manifest(folder).read_text())
    values["shards"][0]["passages"] = 10**15
    manifest(folder).write_text(with_checksum(values))
    with pytest.raises(IndexFolderError, match="do not belong together"):
        Index.open(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@settings(deadline=None, max_examples=200)
@given(data=st.data(), value=JSON)
def test_any_value_in_a_manifest_gives_an_index_or_a_one_line_error(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, value: object
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-index"
    if not folder.exists():
        shutil.copytree(whole, folder)
    values = json.loads(manifest(whole).read_text())
    *parents, last = data.draw(st.sampled_from([place for place in places(values) if place]))
    inner = values
    for key in parents:
        inner = inner[key]
    inner[last] = value
    manifest(folder).write_text(with_checksum(values))
    for use in (Index.open, verify):
        message = str(folder)
        try:
            use(folder)
        except IndexFolderError as error:
            message = str(error)
        assert str(folder) in message
        assert len(message.splitlines()) == 1


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b'{"format": 2}', b'{"format": [2]}', b"1" * 5000]))
def test_any_bytes_instead_of_a_manifest_give_an_error(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-manifest"
    if not folder.exists():
        shutil.copytree(whole, folder)
    manifest(folder).write_bytes(data)
    with pytest.raises(IndexFolderError, match=r"is damaged|format version"):
        read_manifest(folder)
