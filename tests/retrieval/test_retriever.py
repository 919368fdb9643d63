"""Hybrid search fuses both rankings; a mistaken search is one clear line."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import ConfigError, IndexFolderError
from ragx.index import Index, build_index
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import WordEmbedder, passages

TEXTS = [
    f"{colour} {animal} {n}" for n, colour in enumerate(["red", "blue", "green"]) for animal in ["fox", "owl", "elk"]
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    build_index(passages(TEXTS), folder, WordEmbedder(), IndexSettings(shard_size=2), quiet=True)
    return folder


@pytest.fixture(scope="module")
def retriever(folder: Path) -> Retriever:
    return Retriever(Index.open(folder), WordEmbedder())


@settings(deadline=None)
@given(st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=5).map(" ".join), st.integers(1, 12))
def test_hybrid_is_the_reciprocal_rank_fusion_of_both(retriever: Retriever, question: str, k: int) -> None:
    expected: dict[str, float] = {}
    for method in ("dense", "bm25"):
        for rank, hit in enumerate(retriever.search(question, len(TEXTS), method), start=1):
            expected[hit.passage.id] = expected.get(hit.passage.id, 0) + 1 / (60 + rank)
    hits = retriever.search(question, k, "hybrid")
    assert len({hit.passage.id for hit in hits}) == len(hits) == min(k, len(TEXTS))
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)[:k]
    assert all(hit.score == expected[hit.passage.id] for hit in hits)


def test_hits_carry_the_indexed_passage(retriever: Retriever) -> None:
    expected = passages(TEXTS)
    assert {hit.passage for hit in retriever.search("fox", 100)} == set(expected)
    assert [retriever.index.passage(row) for row in range(len(retriever.index))] == expected


@pytest.mark.parametrize("row", [-1, len(TEXTS)])
def test_a_row_outside_the_index_is_an_error(retriever: Retriever, row: int) -> None:
    with pytest.raises(IndexError):
        retriever.index.passage(row)


def test_searches_in_threads_equal_sequential_ones(retriever: Retriever) -> None:
    questions = TEXTS * 20
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda question: retriever.search(question, 3), questions))
    assert together == [retriever.search(question, 3) for question in questions]


def test_without_an_embedder_only_bm25_searches(folder: Path) -> None:
    retriever = Retriever(Index.open(folder))
    assert len(retriever.search("fox", 9, "bm25")) == 3
    for method in ("dense", "hybrid"):
        with pytest.raises(IndexFolderError, match="built with embedder words"):
            retriever.search("fox", 3, method)


def test_another_embedder_is_refused(folder: Path) -> None:
    retriever = Retriever(Index.open(folder), WordEmbedder(fingerprint="x" * 64))
    with pytest.raises(IndexFolderError, match="not with words"):
        retriever.search("fox", 3, "dense")
    assert len(retriever.search("fox", 9, "bm25")) == 3


def test_arguments_out_of_range_are_refused(retriever: Retriever) -> None:
    with pytest.raises(ConfigError, match="k: "):
        retriever.search("fox", 0)
    with pytest.raises(ConfigError, match="'sparse' is not one of"):
        retriever.search("fox", 1, "sparse")  # type: ignore[arg-type]


def test_a_question_is_normalised_as_documents_are(tmp_path: Path) -> None:
    build_index(passages(["x", "한글 창제"]), tmp_path, WordEmbedder(), IndexSettings(), quiet=True)
    retriever = Retriever(Index.open(tmp_path), WordEmbedder())
    decomposed = unicodedata.normalize("NFD", "한글 창제")
    assert list(retriever.search(decomposed, 2)) == list(retriever.search("한글 창제", 2))
