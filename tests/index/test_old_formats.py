"""Indexes of earlier formats are read as they are, and the next writer writes today's; any other version is one line.

`old_formats/` holds what the code of then wrote: `WordEmbedder(dimension=4)`, three passages, one of them deleted
from format 2 on.
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

WRITTEN = passages([f"snow {n} reflects" for n in range(3)])
LEFT = {1: WRITTEN, 2: [WRITTEN[0], WRITTEN[2]], 3: [WRITTEN[0], WRITTEN[2]], 4: [WRITTEN[0], WRITTEN[2]]}


@pytest.fixture(params=sorted(LEFT))
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def folder(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).with_name("old_formats") / f"format-{version}", tmp_path / "index"))


def embedder() -> WordEmbedder:
    return WordEmbedder(dimension=4)


def build(folder: Path, given: list[Passage], with_encoder: WordEmbedder) -> None:
    build_index(given, folder, with_encoder, IndexSettings(), quiet=True)


def held(folder: Path) -> list[Passage]:
    verify(folder)
    index = Index.open(folder)
    return list(index.passages(index.rows().tolist()))


def test_every_earlier_format_is_here() -> None:
    assert sorted(LEFT) == list(range(1, FORMAT))


def test_an_old_index_is_read_and_searched_as_it_is(folder: Path, version: int) -> None:
    before = sorted(folder.rglob("*"))
    assert read_manifest(folder).format == version
    assert held(folder) == LEFT[version]
    retriever = Retriever(Index.open(folder), embedder())
    question = embedder().encode_question("snow")
    products = {each.id: float(question @ embedder().encode_question(each.text)) for each in LEFT[version]}
    assert {hit.passage.id: hit.score for hit in retriever.search("snow", 3, "dense")} == pytest.approx(products)
    assert {hit.passage.id for hit in retriever.search("snow", 3, "bm25")} == set(products)
    assert sorted(folder.rglob("*")) == before


def test_an_update_embeds_what_is_new_and_writes_todays_format(folder: Path, version: int) -> None:
    used = embedder()
    update_index(folder, used, add=[passage(7, "soil absorbs")], delete=["doc0#0"], quiet=True)
    assert used.encoded == 1
    assert read_manifest(folder).format == FORMAT
    assert held(folder) == [*LEFT[version][1:], passage(7, "soil absorbs")]


def test_upkeep_loses_nothing(folder: Path, version: int) -> None:
    publish_search(folder, Search(rerank=2))
    update_index(folder, delete=["doc0#0"], quiet=True)
    compact_index(folder, quiet=True)
    collect_garbage(folder, quiet=True)
    assert read_manifest(folder).format == FORMAT
    assert held(folder) == LEFT[version][1:]


def test_a_repair_makes_files_again_and_writes_todays_format(folder: Path, version: int) -> None:
    damaged = [*folder.rglob("faiss.index"), *folder.rglob("vocab.index.json"), *folder.rglob("lexical/meta.json")]
    for path in damaged:
        path.write_bytes(b"")
    assert len(repair_index(folder, quiet=True)) == (2 if version == 4 else 3)  # a lexical index too, or a new one
    assert read_manifest(folder).format == FORMAT
    assert held(folder) == LEFT[version]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: repair_index(folder, quiet=True),
        lambda folder: publish_search(folder, Search(rerank=2)),
        lambda folder: update_index(folder, delete=["doc0#0"], quiet=True),
        lambda folder: update_index(folder, embedder(), add=[passage(7, "soil")], quiet=True),
    ],
)
def test_words_are_indexed_in_memory_with_a_notice_until_a_writer_stores_them(
    folder: Path, version: int, write: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    if version > 3:
        return
    for said in (f"{folder} has no lexical index: making one in memory; `ragx index repair` stores one\n", ""):
        retriever = Retriever(Index.open(folder))
        assert [hit.passage for hit in retriever.search("reflects 2", 1, "bm25")] == LEFT[version][-1:]
        retriever.search("reflects", 1, "bm25")
        assert capsys.readouterr().err == said
        write(folder)
        verify(folder)
    assert not [name for name in read_manifest(folder).files if name.startswith("bm25/")]
    assert repair_index(folder, quiet=True) == []


def test_a_build_replaces_an_old_index_and_leaves_its_generation(folder: Path, version: int) -> None:
    old = (folder / "CURRENT").read_text()
    build(folder, passages(["soil absorbs"]), embedder())
    assert held(folder) == passages(["soil absorbs"])
    (folder / "CURRENT").write_text(old)
    assert held(folder) == LEFT[version]


def test_a_build_that_died_in_an_old_format_starts_again(folder: Path) -> None:
    """Digests covered fewer fields."""
    next(folder.glob("gen-*")).rename(folder / "gen-building")
    (folder / "CURRENT").unlink()
    used = embedder()
    build(folder, WRITTEN, used)
    assert used.encoded == 3
    assert held(folder) == WRITTEN


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
def test_any_other_version_asks_for_a_rebuild_and_a_build_is_one(tmp_path: Path, other: object) -> None:
    folder = tmp_path / "index"
    build(folder, WRITTEN, embedder())
    path = folder / "gen-0001" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": other}))
    for use in USES:
        with pytest.raises(IndexFolderError) as caught:
            use(folder)
        assert (
            str(caught.value) == f"{path} has format version {other}, this ragx reads 1 to {FORMAT}: rebuild the index"
        )
    assert (folder / "CURRENT").read_text() == "gen-0001\n"
    build(folder, WRITTEN, embedder())
    assert held(folder) == WRITTEN


def test_an_index_of_another_version_can_be_removed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(folder, WRITTEN, embedder())
    path = folder / "gen-0001" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    remove(folder)
    assert not folder.exists()
