"""An index folder holds its last two generations, and how it is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ragx.config import IndexSettings
from ragx.errors import CorpusError
from ragx.index import Index, build_index, read_manifest, remove
from ragx.retrieval import Retriever
from ragx.types import Passage
from tests.helpers.small_indexes import SNOW, SOIL, build, texts_of
from tests.helpers.toy_embedders import WordEmbedder, passage, passages


def test_the_manifest_records_settings_embedder_and_counts(tmp_path: Path) -> None:
    settings = IndexSettings(sources=["notes"], shard_size=3)
    counts = {"documents": 2, "duplicates": 1, "empty": 4, "skipped": 5}
    manifest = build_index(passages(SNOW), tmp_path, WordEmbedder(), settings, counts=lambda: counts, quiet=True)
    assert manifest == read_manifest(tmp_path) == Index.open(tmp_path).manifest
    assert manifest.settings == settings
    assert manifest.embedder.model_dump() == {"name": "words", "fingerprint": "w" * 64, "dimension": 16}
    assert manifest.counts.model_dump() == {**counts, "passages": 7, "shards": 3}
    assert [shard.passages for shard in manifest.shards] == [3, 3, 1]


def test_counts_are_read_after_the_passages(tmp_path: Path) -> None:
    read = []

    def stream() -> Iterator[Passage]:
        for each in passages(SNOW):
            read.append(each)
            yield each

    manifest = build_index(
        stream(), tmp_path, WordEmbedder(), IndexSettings(), counts=lambda: {"documents": len(read)}, quiet=True
    )
    assert manifest.counts.documents == len(SNOW)


def test_all_files_are_in_the_manifest_and_none_is_pickled(folder: Path) -> None:
    generation = folder / "gen-0001"
    files = {path.relative_to(generation).as_posix() for path in generation.rglob("*") if path.is_file()}
    assert files == {*read_manifest(folder).files, "manifest.json"}
    assert {path.name for path in folder.iterdir()} == {"CURRENT", "LOCK", "gen-0001"}
    for path in generation.rglob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.kind in "fiu"


def test_any_text_is_stored_unchanged(tmp_path: Path) -> None:
    stored = [
        Passage("a/ü#0", "a/ü", "\n", "\0 \u2028 \U0001f600 </s> \x1b[31m", 0, 5, 23, "x" * 1000),
        Passage("", "", "", "", 2**40, 0, 0, "", '{"page": 3}'),
    ]
    build_index(stored, tmp_path, WordEmbedder(), IndexSettings(), quiet=True)
    index = Index.open(tmp_path)
    assert [index.passage(row) for row in range(2)] == stored


def test_a_reader_keeps_its_generation_while_others_are_published(folder: Path) -> None:
    retriever = Retriever(Index.open(folder), WordEmbedder())
    before = {method: retriever.search("snow 3", 7, method) for method in ("dense", "bm25", "hybrid")}
    for _ in range(3):
        build(folder, SOIL)
    assert not (folder / "gen-0001").exists()
    assert {method: retriever.search("snow 3", 7, method) for method in before} == before
    assert texts_of(Index.open(folder)) == SOIL


def test_the_current_and_the_previous_generation_are_kept(folder: Path) -> None:
    for number in (2, 3, 4):
        build(folder, SOIL)
        assert (folder / "CURRENT").read_text() == f"gen-{number:04d}\n"
        kept = sorted(path.name for path in folder.glob("gen-*"))
        assert kept == [f"gen-{number - 1:04d}", f"gen-{number:04d}"]


def test_a_failed_build_does_not_change_the_published_index(folder: Path) -> None:
    def broken() -> Iterator[Passage]:
        yield passage(0, "soil")
        raise CorpusError("the corpus ends here")

    with pytest.raises(CorpusError, match="ends here"):
        build_index(broken(), folder, WordEmbedder(), IndexSettings(), quiet=True)
    assert texts_of(Index.open(folder)) == SNOW


def test_remove_deletes_the_index_and_only_the_index(folder: Path, unfinished: Path) -> None:
    build(folder, SOIL)
    (folder / "notes.txt").write_text("mine")
    remove(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_remove_deletes_a_folder_left_empty(unfinished: Path) -> None:
    remove(unfinished)
    assert not unfinished.exists()
