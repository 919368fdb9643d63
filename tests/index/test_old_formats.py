"""Indexes of older formats can be read, and the next writer uses the current format; other versions are refused.

`old_formats/` holds indexes written by older versions: `WordEmbedder(dimension=4)` and three passages, one of them
deleted from format 2.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ragx.config import IndexSettings, Search
from ragx.errors import IndexFolderError
from ragx.index import (
    Index,
    build_index,
    collect_garbage,
    compact_index,
    read_manifest,
    remove,
    repair_index,
    update_index,
    verify,
)
from ragx.index.maintain import publish_search
from ragx.index.manifest import FORMAT
from ragx.retrieval import Retriever
from ragx.types import Passage
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

ALL = passages([f"snow {n} reflects" for n in range(3)])
PASSAGES = {1: ALL} | {version: [ALL[0], ALL[2]] for version in (2, 3, 4)}


@pytest.fixture(params=sorted(PASSAGES))
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def folder(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).with_name("old_formats") / f"format-{version}", tmp_path / "index"))


def embedder() -> WordEmbedder:
    return WordEmbedder(dimension=4)


def build(folder: Path, passages: list[Passage], embedder: WordEmbedder) -> None:
    build_index(passages, folder, embedder, IndexSettings(), quiet=True)


def passages_of(folder: Path) -> list[Passage]:
    verify(folder)
    index = Index.open(folder)
    return list(index.passages(index.rows().tolist()))


def test_all_older_formats_are_tested() -> None:
    assert sorted(PASSAGES) == list(range(1, FORMAT))


def test_an_old_index_can_be_searched_without_changes(folder: Path, version: int) -> None:
    before = sorted(folder.rglob("*"))
    assert read_manifest(folder).format == version
    assert passages_of(folder) == PASSAGES[version]
    retriever = Retriever(Index.open(folder), embedder())
    question = embedder().encode_question("snow")
    products = {each.id: float(question @ embedder().encode_question(each.text)) for each in PASSAGES[version]}
    assert {hit.passage.id: hit.score for hit in retriever.search("snow", 3, "dense")} == pytest.approx(products)
    assert {hit.passage.id for hit in retriever.search("snow", 3, "bm25")} == set(products)
    assert sorted(folder.rglob("*")) == before


def test_an_update_embeds_only_new_passages_and_writes_the_current_format(folder: Path, version: int) -> None:
    counting = embedder()
    update_index(folder, counting, add=[passage(7, "soil absorbs")], delete=["doc0#0"], quiet=True)
    assert counting.encoded == 1
    assert read_manifest(folder).format == FORMAT
    assert passages_of(folder) == [*PASSAGES[version][1:], passage(7, "soil absorbs")]


def test_maintenance_loses_nothing(folder: Path, version: int) -> None:
    publish_search(folder, Search(rerank=2))
    update_index(folder, delete=["doc0#0"], quiet=True)
    compact_index(folder, quiet=True)
    collect_garbage(folder, quiet=True)
    assert read_manifest(folder).format == FORMAT
    assert passages_of(folder) == PASSAGES[version][1:]


def test_a_repair_writes_the_current_format(folder: Path, version: int) -> None:
    damaged = [*folder.rglob("faiss.index"), *folder.rglob("vocab.index.json"), *folder.rglob("lexical/meta.json")]
    for path in damaged:
        path.write_bytes(b"")
    assert len(repair_index(folder, quiet=True)) == (2 if version == 4 else 3)  # a lexical index too, or a new one
    assert read_manifest(folder).format == FORMAT
    assert passages_of(folder) == PASSAGES[version]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: repair_index(folder, quiet=True),
        lambda folder: publish_search(folder, Search(rerank=2)),
        lambda folder: update_index(folder, delete=["doc0#0"], quiet=True),
        lambda folder: update_index(folder, embedder(), add=[passage(7, "soil")], quiet=True),
    ],
)
def test_the_lexical_index_is_built_in_memory_with_a_notice_until_a_writer_stores_it(
    folder: Path, version: int, write: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    if version > 3:
        return
    for notices in (1, 0):
        retriever = Retriever(Index.open(folder))
        assert [hit.passage for hit in retriever.search("reflects 2", 1, "bm25")] == PASSAGES[version][-1:]
        retriever.search("reflects", 1, "bm25")
        assert capsys.readouterr().err.count("has no lexical index") == notices
        write(folder)
        verify(folder)
    assert not [name for name in read_manifest(folder).files if name.startswith("bm25/")]
    assert repair_index(folder, quiet=True) == []


def test_a_build_keeps_the_old_generation(folder: Path, version: int) -> None:
    old = (folder / "CURRENT").read_text()
    build(folder, passages(["soil absorbs"]), embedder())
    assert passages_of(folder) == passages(["soil absorbs"])
    (folder / "CURRENT").write_text(old)
    assert passages_of(folder) == PASSAGES[version]


def test_an_interrupted_build_in_an_old_format_starts_over(folder: Path) -> None:
    """Its digests cover fewer fields."""
    next(folder.glob("gen-*")).rename(folder / "gen-building")
    (folder / "CURRENT").unlink()
    counting = embedder()
    build(folder, ALL, counting)
    assert counting.encoded == 3
    assert passages_of(folder) == ALL


USES: list[Callable[[Path], object]] = [
    Index.open,
    verify,
    read_manifest,
    lambda folder: update_index(folder, embedder(), add=[passage(7, "soil")], quiet=True),
    lambda folder: update_index(folder, delete=["doc0#0"], quiet=True),
    lambda folder: compact_index(folder, quiet=True),
    lambda folder: collect_garbage(folder, quiet=True),
    lambda folder: repair_index(folder, quiet=True),
    lambda folder: publish_search(folder, Search()),
]


@pytest.mark.parametrize("other", [0, FORMAT + 1, -1, 10**30, "3", None, [2]])
def test_other_versions_are_refused_until_rebuilt(tmp_path: Path, other: object) -> None:
    folder = tmp_path / "index"
    build(folder, ALL, embedder())
    path = folder / "gen-0001" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": other}))
    for use in USES:
        with pytest.raises(IndexFolderError, match="has format version"):
            use(folder)
    assert (folder / "CURRENT").read_text() == "gen-0001\n"
    build(folder, ALL, embedder())
    assert passages_of(folder) == ALL


def test_an_index_of_another_version_can_be_removed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(folder, ALL, embedder())
    path = folder / "gen-0001" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    remove(folder)
    assert not folder.exists()
