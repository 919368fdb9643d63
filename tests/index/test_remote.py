"""An index in an object store is copied once, checked, and read-only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragx.errors import IndexFolderError
from ragx.index import Index, read_manifest, update_index, verify
from ragx.index.names import index_folder, is_url
from ragx.index.remote import following
from ragx.retrieval import CurrentIndex, Retriever
from tests.helpers import small_indexes
from tests.helpers.command import RunCommand
from tests.helpers.s3_server import Bucket, s3_bucket
from tests.helpers.small_indexes import SNOW, SOIL, texts_of
from tests.helpers.toy_embedders import WordEmbedder, passage
from tests.helpers.waiting import eventually


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    small_indexes.build(tmp_path / "bucket" / "papers", SNOW)
    return tmp_path / "bucket" / "papers"


@pytest.fixture
def bucket(origin: Path) -> Iterator[Bucket]:
    with s3_bucket(origin.parent) as running:
        yield running


@pytest.fixture
def url(bucket: Bucket) -> str:
    return f"{bucket.url}/papers{bucket.query}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3://b/x", True),
        ("memory://x", True),
        ("papers", False),
        ("./s3:/x", False),
        ("C:\\x", False),
        ("/a://b", False),
    ],
)
def test_what_is_a_url(name: str, expected: bool) -> None:
    assert is_url(name) == expected


def test_a_copy_is_the_same_index(origin: Path, url: str) -> None:
    copy = index_folder(url)
    small_indexes.assert_same_index(copy, origin)


def test_only_a_new_generation_is_copied(origin: Path, url: str, bucket: Bucket) -> None:
    copy = index_folder(url)
    bucket.reads.clear()
    assert index_folder(url) == copy
    assert sorted(set(bucket.reads)) == ["papers/CURRENT", "papers/gen-0001/manifest.json"]
    update_index(origin, WordEmbedder(), add=[passage(n + 100, text) for n, text in enumerate(SOIL)], quiet=True)
    assert texts_of(Index.open(index_folder(url))) == SNOW + SOIL
    verify(copy)
    assert any("shard-00002" in name for name in bucket.reads)
    assert not any("shard-00000" in name for name in bucket.reads), "which did not change"
    assert [path.name for path in copy.glob("gen-*")] == ["gen-0002"]


def test_a_new_generation_is_copied_while_the_index_is_followed(origin: Path, url: str) -> None:
    current = CurrentIndex(index_folder(url), Retriever)
    assert texts_of(current.retriever.index) == SNOW
    with following([current.folder], seconds=0.05):
        update_index(origin, WordEmbedder(), add=[passage(n + 100, text) for n, text in enumerate(SOIL)], quiet=True)
        assert eventually(lambda: texts_of(current.retriever.index) == SNOW + SOIL)


def test_a_followed_store_that_fails_is_reported_once(
    origin: Path, url: str, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = index_folder(url)
    (origin / "CURRENT").rename(origin / "away")
    bucket.asked.clear()
    capsys.readouterr()  # the progress of the copy
    with following([copy], seconds=0.05):
        assert eventually(lambda: bucket.asked.count("papers/CURRENT") > 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no such file; still using the earlier copy" in line
    assert texts_of(Index.open(copy)) == SNOW


def test_an_index_built_anew_replaces_its_copy(origin: Path, url: str) -> None:
    index_folder(url)
    shutil.rmtree(origin)
    small_indexes.build(origin, SOIL)
    assert texts_of(Index.open(index_folder(url))) == SOIL


def test_an_interrupted_copy_continues(origin: Path, url: str, bucket: Bucket) -> None:
    names = [f"papers/gen-0001/{name}" for name in read_manifest(origin).files]
    moved = origin.parent / names[-1]
    moved.rename(origin.parent / "moved")
    with pytest.raises(IndexFolderError, match=f"cannot read s3://b/{names[-1]}: there is no such file"):
        index_folder(url)
    (origin.parent / "moved").rename(moved)
    bucket.reads.clear()
    verify(index_folder(url))
    assert names[-1] in bucket.reads
    assert not {*names[:-1]} & {*bucket.reads}


def test_damage_on_the_way_is_found(origin: Path, url: str) -> None:
    (shard, *_) = sorted(origin.rglob("shard-*/vectors*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(IndexFolderError, match="is damaged: a wrong checksum"):
        index_folder(url)
    (origin / "CURRENT").write_text("../../etc")
    with pytest.raises(IndexFolderError, match="CURRENT is damaged"):
        index_folder(url)


def test_without_the_store_the_copy_serves(
    url: str, bucket: Bucket, origin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = index_folder(url)
    (origin / "CURRENT").unlink()
    assert index_folder(url) == copy
    assert "cannot read s3://b/papers/CURRENT: there is no such file; the copy of 20" in capsys.readouterr().err
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    bucket.reads.clear()
    assert index_folder(url) == copy
    assert bucket.reads == []
    with pytest.raises(IndexFolderError, match="--offline"):
        index_folder(url.replace("papers", "others"))


def test_the_copy_is_not_changed_and_keys_are_not_shown(run_command: RunCommand, url: str, tmp_path: Path) -> None:
    found = run_command("search", "snow", "--index", url, "--method", "bm25", "--k", 2)
    assert (found.code, "snow" in found.out) == (0, True), found.err
    for command in (("index", "gc"), ("index", "compact"), ("index", "delete", "x")):
        refused = run_command(*command, "--index", url)
        assert (refused.code, "s3://b/papers can only be read" in refused.err) == (2, True), refused.err
    for file in (tmp_path / "home").rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes()
    assert "secret" not in found.err + found.out


def test_any_store_of_fsspec(origin: Path) -> None:
    assert texts_of(Index.open(index_folder(origin.as_uri()))) == SNOW


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nostore://x/y", "cannot open nostore://x/y: "),
        ("memory://nowhere/papers", "cannot read memory://nowhere/papers/CURRENT: there is no such file"),
        (
            "s3://key:secret@b/p?endpoint_override=127.0.0.1:9&scheme=http&region=x",
            "cannot read s3://b/p",
        ),
    ],
)
@pytest.mark.slow
def test_a_store_that_cannot_be_read_is_one_line(url: str, message: str) -> None:
    with pytest.raises(IndexFolderError) as error:
        index_folder(url)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
