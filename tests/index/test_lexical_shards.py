"""A lexical index of several shards: scores compare across them, and an update writes only those it changes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import IndexFolderError
from ragx.index import (
    Index,
    build_index,
    collect_garbage,
    compact_index,
    read_manifest,
    repair_index,
    update_index,
    verify,
)
from ragx.retrieval import Retriever
from ragx.types import Passage
from tests.helpers.bm25 import formula
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

SIZE = 4
WORDS = ["snow", "albedo", "soil", "cloud", "light"]
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=20)


def build(folder: Path, texts: list[Passage], size: int = SIZE, **values: object) -> None:
    index_settings = IndexSettings.model_validate({"lexical_shard_size": size, **values})
    build_index(texts, folder, WordEmbedder(), index_settings, quiet=True)


def search(folder: Path, question: str, k: int = 100) -> list[tuple[str, float]]:
    return [(hit.passage.id, hit.score) for hit in Retriever(Index.open(folder)).search(question, k, "bm25")]


def inodes(folder: Path) -> dict[str, int]:
    generation = folder / (folder / "CURRENT").read_text().strip()
    paths = [path for path in (generation / "lexical").rglob("*") if path.is_file()]
    return {path.relative_to(generation / "lexical").as_posix(): path.stat().st_ino for path in paths}


@settings(deadline=None, max_examples=25)
@given(texts, st.sampled_from(WORDS), st.sampled_from(WORDS), st.integers(1, 25), st.integers(1, 25))
def test_words_are_as_rare_as_in_the_whole_index(texts: list[str], word: str, other: str, size: int, k: int) -> None:
    question = f"{word} {other} {word}"
    with TemporaryDirectory() as name:
        build(Path(name), passages(texts), size, shard_size=3)
        hits = search(Path(name), question, k)
    expected = {f"doc{n}#0": score for n, score in enumerate(formula(texts, question, size)) if score > 0}
    assert len(hits) == min(k, len(expected))
    assert [score for _, score in hits] == pytest.approx(sorted(expected.values(), reverse=True)[: len(hits)], rel=1e-5)
    assert dict(hits) == pytest.approx({id: expected[id] for id, _ in hits}, rel=1e-5)


def test_ties_are_in_passage_order_across_shards(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"] * 11))
    assert [id for id, _ in search(tmp_path, "snow", 9)] == [f"doc{n}#0" for n in range(9)]


@pytest.mark.parametrize("wanted", [[], [5], [3, 4, 8], [*range(12)]])
def test_some_rows_of_every_shard_are_searched(tmp_path: Path, wanted: list[int]) -> None:
    build(tmp_path, passages(["snow soil"] * 11 + ["snow"]))
    retriever = Retriever(Index.open(tmp_path))
    scores = {hit.passage.id: hit.score for hit in retriever.search("snow", 12, "bm25")}
    hits = retriever.search("snow", 12, "bm25", np.isin(np.arange(12), wanted))
    assert {hit.passage.id: hit.score for hit in hits} == {f"doc{n}#0": scores[f"doc{n}#0"] for n in wanted}


@pytest.mark.parametrize("changed", [[], [1], [5], [2, 11]])
def test_an_update_writes_only_the_shards_that_it_changes(tmp_path: Path, changed: list[int]) -> None:
    build(tmp_path, passages(["snow"] * 12), shard_size=2)
    before = inodes(tmp_path)
    new = [passage(12, "soil"), *(passage(number, "cloud") for number in changed)]
    update_index(tmp_path, WordEmbedder(), add=new, quiet=True)
    after = inodes(tmp_path)
    written = {name.split("/")[0] for name, inode in after.items() if before.get(name) != inode}
    assert written == {"00003", *(f"{number // SIZE:05d}" for number in changed)}
    assert sorted(id for id, _ in search(tmp_path, "soil cloud")) == sorted(each.id for each in new)
    verify(tmp_path)


@settings(deadline=None, max_examples=15)
@given(texts, st.lists(st.sets(st.integers(0, 24)), min_size=1, max_size=3), st.sampled_from(WORDS))
def test_after_updates_and_compaction_scores_are_those_of_a_new_index(
    texts: list[str], changes: list[set[int]], word: str
) -> None:
    with TemporaryDirectory() as name:
        updated, rebuilt = Path(name, "updated"), Path(name, "rebuilt")
        build(updated, passages(texts), shard_size=3)
        for change in changes:
            new = [passage(number, f"{word} {number} light") for number in sorted(change)]
            update_index(updated, WordEmbedder(), add=new, delete=["doc1#0"], quiet=True)
        compact_index(updated, quiet=True)
        verify(updated)
        index = Index.open(updated)
        if len(index):
            build(rebuilt, [index.passage(row) for row in range(len(index))])
            hits, expected = search(updated, f"{word} light"), search(rebuilt, f"{word} light")
            assert [id for id, _ in hits] == [id for id, _ in expected]
            assert dict(hits) == pytest.approx(dict(expected))


def test_an_index_that_shrinks_has_fewer_shards(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow soil"] * 10), shard_size=2)
    update_index(tmp_path, delete=[f"doc{n}#0" for n in range(1, 10)], quiet=True)
    assert [path.name for path in (tmp_path / "gen-0002" / "lexical").iterdir()] == ["00000"]
    compact_index(tmp_path, quiet=True)
    collect_garbage(tmp_path, quiet=True)
    assert {name.split("/")[0] for name in inodes(tmp_path)} == {"00000"}
    assert [id for id, _ in search(tmp_path, "snow")] == ["doc0#0"]
    assert not [name for name in read_manifest(tmp_path).files if name.startswith("lexical/00001")]


def test_a_shard_without_a_word_of_the_question_finds_nothing(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"] * 4 + ["soil"] * 4))
    assert {id for id, _ in search(tmp_path, "soil")} == {f"doc{n}#0" for n in range(4, 8)}
    assert search(tmp_path, "zebra") == []


@pytest.mark.usefixtures("unread_when_opened")
def test_a_damaged_shard_is_named_and_repaired(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"] * 6))
    before = search(tmp_path, "snow")
    for path in (tmp_path / "gen-0001" / "lexical" / "00001").glob("*.idx"):
        path.unlink()
    with pytest.raises(IndexFolderError, match=r"00001.*ragx index repair"):
        Index.open(tmp_path)
    repair_index(tmp_path, quiet=True)
    verify(tmp_path)
    assert search(tmp_path, "snow") == before
