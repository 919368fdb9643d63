"""An updated index answers like a rebuilt one, and kept passages are not embedded again."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import CorpusError, IndexFolderError
from ragx.index import Index, build_index, compact_index, read_manifest, repair_index, update_index, verify
from ragx.index.passages import column
from ragx.index.update import LOOKUP_BATCH
from ragx.retrieval import Retriever
from ragx.types import Passage, SearchMethod
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

TEXTS = [f"snow {n} reflects" for n in range(7)]


def build(folder: Path, passages: list[Passage], **values: object) -> None:
    build_index(passages, folder, WordEmbedder(), IndexSettings.model_validate({"shard_size": 3, **values}), quiet=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    build(folder, passages(TEXTS))
    return folder


def passages_of(folder: Path) -> dict[str, Passage]:
    index = Index.open(folder)
    passages = [index.passage(row) for row in index.rows().tolist()]
    assert len(passages) == len({each.id for each in passages}) == len(index)
    return {each.id: each for each in passages}


def ranking(folder: Path, question: str, k: int, method: SearchMethod) -> list[tuple[str, float]]:
    hits = Retriever(Index.open(folder), WordEmbedder()).search(question, k, method)
    return [(hit.passage.id, hit.score) for hit in hits]


WORDS = ["snow", "soil", "sea", "reflects", "absorbs"]
CHANGES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 9), st.sampled_from(WORDS)), max_size=5),
        st.sets(st.integers(0, 9), max_size=5),
    ),
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(changes=CHANGES, k=st.integers(1, 12), faiss=st.sampled_from(["Flat", "HNSW8"]))
def test_after_any_updates_the_index_answers_like_a_rebuilt_one(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[list[tuple[int, str]], set[int]]],
    k: int,
    faiss: str,
) -> None:
    folder, rebuilt = tmp_path_factory.mktemp("updated"), tmp_path_factory.mktemp("rebuilt")
    build(folder, passages(TEXTS), faiss=faiss)
    expected = {each.id: each for each in passages(TEXTS)}
    for added, deleted in changes:
        new = [passage(number, f"{word} {number}") for number, word in added]
        update_index(folder, WordEmbedder(), add=new, delete=[f"doc{number}#0" for number in deleted], quiet=True)
        for number in deleted:
            expected.pop(f"doc{number}#0", None)
        expected |= {each.id: each for each in new}
    assert passages_of(folder) == expected
    verify(folder)
    if not expected:
        return
    build(rebuilt, list(expected.values()))
    for question in ("snow 3 reflects", "sea absorbs"):
        scores, expected_scores = (dict(ranking(index, question, k, "dense")) for index in (folder, rebuilt))
        assert scores == pytest.approx(expected_scores)
        # BM25 scores differ, because deleted passages count as passages without words
        ids, expected_ids = ({id for id, _ in ranking(index, question, 20, "bm25")} for index in (folder, rebuilt))
        assert ids == expected_ids


def test_only_new_passages_are_embedded(folder: Path) -> None:
    embedder = WordEmbedder()
    update_index(folder, embedder, add=[passage(7, "soil"), passage(0, "cloud")], delete=["doc6#0"], quiet=True)
    assert embedder.encoded == 2
    index = Index.open(folder)
    vectors = np.array([index.vector(row) for row in index.rows().tolist()])
    expected = WordEmbedder().encode_passages([index.passage(row) for row in index.rows().tolist()], lambda _: None)
    np.testing.assert_allclose(vectors, expected, rtol=2**-11)


def test_deleting_needs_no_embedder_and_writes_no_shard(folder: Path) -> None:
    before = {path.name: path.stat().st_ino for path in (folder / "gen-0001").rglob("*") if path.is_file()}
    update_index(folder, delete=["doc1#0", "doc5#0"], quiet=True)
    after = {path.name: path.stat().st_ino for path in (folder / "gen-0002").rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in set(after) - set(before)} == {".npy", ".del"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json", "meta.json"}
    assert [*passages_of(folder)] == [f"doc{number}#0" for number in (0, 2, 3, 4, 6)]
    assert "doc1#0" not in dict(ranking(folder, "snow 1 reflects", 10, "hybrid"))


def test_an_update_without_changes_publishes_nothing(folder: Path) -> None:
    delete = ["doc3#0", "absent", "\ud800"]
    update = update_index(folder, WordEmbedder(), add=passages(TEXTS), delete=delete, quiet=True)
    assert update == (read_manifest(folder), 0, 0)
    assert (folder / "CURRENT").read_text() == "gen-0001\n"


def test_the_last_of_equal_ids_counts(folder: Path) -> None:
    update_index(folder, WordEmbedder(), add=[passage(2, "first"), passage(2, "last")], quiet=True)
    assert passages_of(folder)["doc2#0"].text == "last"
    assert len(passages_of(folder)) == len(TEXTS)


def test_ids_are_read_equally_often_for_any_number_of_added_passages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    for module in ("index", "by_id"):
        monkeypatch.setattr(f"ragx.index.{module}.column", lambda table, name: reads.append(1) or column(table, name))
    counts = []
    for times in (1, 4):
        reads.clear()
        update_index(folder, WordEmbedder(), add=passages(TEXTS) * (LOOKUP_BATCH // len(TEXTS) * times), quiet=True)
        counts.append(len(reads))
    assert counts[0] == counts[1]


def test_changed_metadata_is_a_change(folder: Path) -> None:
    changed = replace(passage(2, TEXTS[2]), metadata='{"page": 1}')
    update_index(folder, WordEmbedder(), add=[changed], quiet=True)
    assert passages_of(folder)["doc2#0"] == changed


def test_the_manifest_counts_remaining_passages(folder: Path) -> None:
    update_index(folder, WordEmbedder(), add=[passage(9, "soil")], delete=["doc0#0", "doc1#0"], quiet=True)
    counts = read_manifest(folder).counts
    assert (counts.documents, counts.passages) == (6, 6)


def test_many_small_additions_leave_few_shards(tmp_path: Path) -> None:
    build(tmp_path, passages(["snow"]), shard_size=100)
    for number in range(1, 33):
        update_index(tmp_path, WordEmbedder(), add=[passage(number, "snow")], quiet=True)
    assert len(passages_of(tmp_path)) == 33
    assert len(Index.open(tmp_path).shards) <= 6


def test_an_index_can_be_emptied_and_filled_again(folder: Path) -> None:
    update_index(folder, delete=[each.id for each in passages(TEXTS)], quiet=True)
    assert passages_of(folder) == {}
    assert [ranking(folder, "snow", 3, method) for method in ("dense", "bm25", "hybrid")] == [[], [], []]
    verify(folder)
    update_index(folder, WordEmbedder(), add=passages(TEXTS), quiet=True)
    assert [*passages_of(folder).values()] == passages(TEXTS)


def test_a_reader_keeps_its_generation(folder: Path) -> None:
    retriever = Retriever(Index.open(folder), WordEmbedder())
    before = retriever.search("snow 3", 7)
    for number in range(3):
        update_index(folder, WordEmbedder(), add=[passage(number, "soil")], delete=["doc6#0"], quiet=True)
    assert retriever.search("snow 3", 7) == before


def test_a_build_after_an_update_has_no_deletions(folder: Path) -> None:
    update_index(folder, delete=["doc1#0"], quiet=True)
    build(folder, passages(TEXTS))
    assert [*passages_of(folder).values()] == passages(TEXTS)


def test_a_build_over_an_unfinished_update_does_not_change_published_files(folder: Path) -> None:
    """The unfinished update shares files with the published generation."""

    class Interrupted(WordEmbedder):
        def encode_passages(self, *arguments: object) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(folder, Interrupted(), add=[passage(9, "soil")], delete=["doc0#0"], quiet=True)
    shutil.copytree(folder / "gen-0001" / "lexical", folder / "gen-building" / "lexical", copy_function=os.link)
    build(folder, passages(["cloud"]))
    (folder / "CURRENT").write_text("gen-0001\n")
    verify(folder)
    assert [*passages_of(folder).values()] == passages(TEXTS)


def test_an_update_can_create_the_index(tmp_path: Path) -> None:
    out = tmp_path / "new"
    settings = IndexSettings(shard_size=2, faiss="HNSW8")
    for part in (passages(TEXTS)[:3], passages(TEXTS)):
        update_index(out, WordEmbedder(), add=part, create=settings, quiet=True)
    assert [*passages_of(out).values()] == passages(TEXTS)
    assert read_manifest(out).settings == settings
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="neither empty nor an index"):
        update_index(tmp_path, WordEmbedder(), add=passages(TEXTS), create=settings)


def test_an_index_without_current_is_restored_and_updated(folder: Path) -> None:
    (folder / "CURRENT").unlink()
    update_index(folder, WordEmbedder(), add=[passage(9, "soil")], create=IndexSettings(shard_size=3), quiet=True)
    assert [*passages_of(folder).values()] == [*passages(TEXTS), passage(9, "soil")]


def test_texts_that_move_to_another_document_are_not_embedded_again(folder: Path) -> None:
    embedder = WordEmbedder()
    add = [passage(2, "new"), passage(3, TEXTS[2]), passage(8, TEXTS[4]), passage(9, TEXTS[0])]
    update_index(folder, embedder, add=add, delete=["doc4#0"], quiet=True)
    assert embedder.encoded == 2  # "new", and the text that doc0 still has
    index = Index.open(folder)
    for row in index.rows().tolist():
        expected = WordEmbedder().encode_question(index.passage(row).text)
        np.testing.assert_allclose(index.vector(row), expected, rtol=2**-11)


def test_invalid_updates_change_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="no index at"):
        update_index(tmp_path / "absent", WordEmbedder(), add=passages(TEXTS))
    assert not (tmp_path / "absent").exists()
    with pytest.raises(IndexFolderError, match="not with words"):
        update_index(folder, WordEmbedder(fingerprint="x" * 64), add=[passage(9, "soil")], quiet=True)
    with pytest.raises(CorpusError, match="lone surrogate"):
        update_index(folder, WordEmbedder(), add=[passage(9, "bro\ud800ken")], quiet=True)
    with pytest.raises(ValueError, match="need an embedder"):
        update_index(folder, add=[passage(9, "soil")], quiet=True)
    assert (folder / "CURRENT").read_text() == "gen-0001\n"
    assert [*passages_of(folder).values()] == passages(TEXTS)


@pytest.mark.parametrize("rows", [[3, 1], [1, 1], [-1], [7], [[0]], [0.5]])
def test_invalid_deleted_rows_are_damage(folder: Path, rows: list[object]) -> None:
    update_index(folder, delete=["doc1#0", "doc2#0"], quiet=True)
    from ragx.index.manifest import FileEntry, write_manifest

    path = folder / "gen-0002" / "deleted.npy"
    np.save(path, np.array(rows))
    manifest = read_manifest(folder)
    files = manifest.files | {"deleted.npy": FileEntry(size=path.stat().st_size, sha256="0" * 64)}
    write_manifest(manifest.model_copy(update={"files": files}), path.parent)
    with pytest.raises(IndexFolderError, match=f"{path} is damaged"):
        Index.open(folder)


def test_compacting_removes_deleted_passages_without_embedding(folder: Path) -> None:
    before = passages_of(folder)
    update_index(folder, delete=["doc4#0"], quiet=True)
    compact_index(folder, quiet=True)
    index = Index.open(folder)
    assert len(index.deleted) == 0
    assert [shard.passages.num_rows for shard in index.shards] == [3, 3]
    assert passages_of(folder) == {id: each for id, each in before.items() if id != "doc4#0"}
    vectors = np.array([index.vector(row) for row in range(6)])
    expected = WordEmbedder().encode_passages([*passages_of(folder).values()], lambda _: None)
    np.testing.assert_allclose(vectors, expected, rtol=2**-11)
    assert compact_index(folder, quiet=True) == read_manifest(folder)
    assert (folder / "CURRENT").read_text() == "gen-0003\n"


@pytest.mark.parametrize("kind", ["faiss.index", "meta.json", "*.term", "*.fast"])
def test_derived_files_can_be_repaired(folder: Path, kind: str) -> None:
    update_index(folder, delete=["doc1#0"], quiet=True)
    before = [ranking(folder, "snow 3 reflects", 9, method) for method in ("dense", "bm25")]
    missing = [*(folder / "gen-0002").rglob(kind)]
    for path in missing:
        path.unlink()
    with pytest.raises(IndexFolderError, match="run `ragx index repair`"):
        Index.open(folder)
    assert {folder / "gen-0002" / name for name in repair_index(folder, quiet=True)} == {*missing}
    verify(folder)
    after = [ranking(folder, "snow 3 reflects", 9, method) for method in ("dense", "bm25")]
    assert [[id for id, _ in each] for each in after] == [[id for id, _ in each] for each in before]
    assert repair_index(folder, quiet=True) == []


@pytest.mark.parametrize("kind", ["passages.arrow", "vectors.npy", "deleted.npy"])
def test_original_data_cannot_be_repaired(folder: Path, kind: str) -> None:
    update_index(folder, delete=["doc1#0"], quiet=True)
    for path in (folder / "gen-0002").rglob(kind):
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(IndexFolderError, match="cannot be regenerated"):
        repair_index(folder, quiet=True)
