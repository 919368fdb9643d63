"""A filtered search is a search of the passages that pass, exactly; fields are those documents have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import ConfigError, IndexFolderError
from ragx.index import Index, build_index, update_index
from ragx.retrieval import Retriever
from ragx.types import Passage
from tests.helpers.toy_embedders import WordEmbedder, passages

NUMBER = 60
WORDS = ["red", "blue", "green", "fox", "owl", "elk"]
TEXTS = [f"{WORDS[n % 3]} {WORDS[3 + n * n % 3]} {WORDS[n % 5]} {n}" for n in range(NUMBER)]
FILTERS: dict[str, Callable[[int], bool]] = {
    "number < 7": lambda n: n < 7,
    "number != 3 and even == true": lambda n: n != 3 and n % 2 == 0,
    "not (number >= 10 or even = false)": lambda n: n < 10 and n % 2 == 0,
    'number in [1, 2, 59] or colour == "red"': lambda n: n in (1, 2, 59) or n % 3 == 0,
    "number > 1000": lambda n: False,
    "third = null": lambda n: n % 3 != 0,
}
"""Filters and the numbers of the passages that pass."""


def with_fields(number: int, passage: Passage) -> Passage:
    fields: dict[str, object] = {"number": number, "even": number % 2 == 0, "colour": WORDS[number % 3]}
    return replace(passage, metadata=json.dumps(fields | ({"third": number} if number % 3 == 0 else {})))


PASSAGES = [with_fields(number, passage) for number, passage in enumerate(passages(TEXTS))]


def retriever_of(passages: list[Passage], folder: Path, faiss: str = "Flat") -> Retriever:
    build_index(passages, folder, WordEmbedder(), IndexSettings(shard_size=17, faiss=faiss), quiet=True)
    return Retriever(Index.open(folder), WordEmbedder())


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    return retriever_of(PASSAGES, tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module", params=[where for where in FILTERS if where != "number > 1000"])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Retriever]:
    """A filter, and an index of the passages alone that pass it."""
    passing = [passage for number, passage in enumerate(PASSAGES) if FILTERS[request.param](number)]
    return request.param, retriever_of(passing, tmp_path_factory.mktemp("alone"))


questions = st.lists(st.sampled_from([*WORDS, "7", "30"]), min_size=1, max_size=4).map(" ".join)


def found(hits: list[Any]) -> list[tuple[str, float]]:
    return [(hit.passage.id, hit.score) for hit in hits]


@settings(deadline=None, max_examples=40)
@given(questions, st.integers(1, NUMBER))
def test_dense_hits_are_those_of_an_index_of_the_passing_passages(
    retriever: Retriever, alone: tuple[str, Retriever], question: str, k: int
) -> None:
    where, other = alone
    assert found(retriever.search(question, k, "dense", retriever.select(where))) == found(
        other.search(question, k, "dense")
    )


@settings(deadline=None)
@given(questions, st.integers(1, NUMBER), st.sampled_from([*FILTERS]))
def test_bm25_ranks_as_without_the_filter(retriever: Retriever, question: str, k: int, where: str) -> None:
    everything = retriever.search(question, NUMBER, "bm25")
    expected = [hit for hit in everything if FILTERS[where](json.loads(hit.passage.metadata)["number"])][:k]
    hits = retriever.search(question, k, "bm25", retriever.select(where))
    assert [hit.passage for hit in hits] == [hit.passage for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], rel=1e-6)


@settings(deadline=None)
@given(questions, st.integers(1, NUMBER), st.sampled_from([*FILTERS]))
def test_hybrid_fuses_the_filtered_rankings(retriever: Retriever, question: str, k: int, where: str) -> None:
    selected = retriever.select(where)
    expected: dict[str, float] = {}
    for method in ("dense", "bm25"):
        for rank, hit in enumerate(retriever.search(question, NUMBER, method, selected), start=1):
            expected[hit.passage.id] = expected.get(hit.passage.id, 0) + 1 / (60 + rank)
    hits = retriever.search(question, k, "hybrid", selected)
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)[:k]
    assert all(hit.score == expected[hit.passage.id] for hit in hits)


def test_deleted_passages_stay_deleted(tmp_path: Path) -> None:
    retriever_of(PASSAGES, tmp_path)
    update_index(tmp_path, delete=["doc0#0", "doc2#0"], quiet=True)
    retriever = Retriever(Index.open(tmp_path), WordEmbedder())
    for method in ("dense", "bm25", "hybrid"):
        hits = retriever.search("red green", NUMBER, method, retriever.select("number < 5 and even == true"))
        assert [hit.passage.id for hit in hits] == (["doc4#0"] if method != "bm25" else [])


@pytest.mark.parametrize(
    "faiss", ["binary", "hnsw", "IVF8,Flat", "PCA8,IVF4,Flat", "SQ8", "IVF4,PQ4x4fs", "PQ4x4", "IVF4,Flat,Refine(Flat)"]
)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.8])
def test_approximate_indexes_find_k_passing_passages(faiss: str, share: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 4)) + f" {n}" for n in range(1000)]
    several = [with_fields(number, passage) for number, passage in enumerate(passages(texts))]
    build_index(several, tmp_path, WordEmbedder(), IndexSettings(faiss=faiss), quiet=True)
    retriever = Retriever(Index.open(tmp_path), WordEmbedder())
    exact = np.array([WordEmbedder().encode_question(text) for text in texts], np.float16).astype(np.float32)
    passing = np.arange(1000) < 1000 * share
    selected = retriever.select(f"number < {1000 * share:g}")
    recall = []
    for question in ("red fox", "owl", "blue 7 elk elk"):
        hits = retriever.search(question, 10, "dense", selected)
        assert len(hits) == 10
        assert all(json.loads(hit.passage.metadata)["number"] < 1000 * share for hit in hits)
        scores = np.where(passing, exact @ WordEmbedder().encode_question(question), -np.inf)
        recall.append(np.mean([hit.score >= np.sort(scores)[-10] - 1e-4 for hit in hits]))
    assert np.mean(recall) >= (1.0 if share == 0.01 else 0.5)


def test_an_unknown_field_is_answered_with_the_fields_there_are(retriever: Retriever) -> None:
    with pytest.raises(ConfigError) as raised:
        retriever.select("number > 2 and nubmer < 5")
    message = str(raised.value)
    assert "'nubmer'" in message
    assert "\n" not in message
    for name in (
        "colour",
        "even",
        "number",
        "third",
        "path",
        "folder",
        "format",
        "title",
        "headings",
        "page",
        "source",
    ):
        assert name in message


def test_several_filters_must_all_let_a_passage_through(retriever: Retriever) -> None:
    assert retriever.select(None, None) is None
    selected = retriever.select("number < 10", None, "even = true")
    assert selected is not None
    assert np.flatnonzero(selected).tolist() == [0, 2, 4, 6, 8]


def test_damaged_metadata_is_one_clear_line(tmp_path: Path) -> None:
    retriever = retriever_of([replace(passage, metadata="[1]") for passage in PASSAGES], tmp_path)
    with pytest.raises(IndexFolderError, match="metadata"):
        retriever.select("number < 3")


def of_file(document: str, source: str, **values: Any) -> Passage:
    return replace(passages(["text"])[0], id=f"{document}#0", document=document, source=source, **values)


FILES = [
    of_file("contracts/2024/lease.pdf", "/corpus/contracts/2024/lease.pdf", page=3, title="Lease"),
    of_file("contracts/README", "/corpus/contracts/README", headings="Install > From source"),
    of_file("mail.eml/scan.PDF", "/corpus/mail.eml", metadata='{"modified": "2024-01-31T23:30:00+00:00"}'),
    of_file("notes.md", "/corpus/notes.md", metadata='{"source": "diary", "tags": ["red", "blue"], "page": 9}'),
    of_file("row 7", "/corpus/rows/data.jsonl.gz", metadata='{"year": "2024"}'),
    of_file("Snow", "org/dataset"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("files")
    build_index(FILES, folder, WordEmbedder(), IndexSettings(sources=["/corpus"]), quiet=True)
    return Retriever(Index.open(folder), WordEmbedder())


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ('path == "contracts/2024/lease.pdf"', [0]),
        ('path like "contracts/*"', [0, 1]),
        ('path in ["mail.eml", "rows/data.jsonl.gz"]', [2, 4]),
        ("path == null", [5]),
        ('folder == "contracts"', [0, 1]),
        ('folder == "contracts/2024"', [0]),
        ('folder == "rows"', [4]),
        ("folder == null", [2, 3, 5]),
        ('format == "pdf"', [0, 2]),
        ('format == "markdown" or format == "md"', [3]),
        ('format == "text"', [1]),
        ('format == "jsonl"', [4]),
        ('title == "Lease"', [0]),
        ("title == null", [1, 2, 3, 4, 5]),
        ('"From source" in headings', [1]),
        ("page >= 3", [0, 3]),
        ("page == null", [1, 2, 4, 5]),
        ("position == 0", [0, 1, 2, 3, 4, 5]),
        ('source == "diary"', [3]),
        ('source like "/corpus/*"', [0, 1, 2, 4]),
        ('document == "Snow"', [5]),
        ("modified == 2024-01-31", [2]),
        ("modified == null", [0, 1, 3, 4, 5]),
        ('"red" in tags', [3]),
        ("year == 2024", [4]),
    ],
)
def test_fields_of_files_rows_and_data_sets(files: Retriever, where: str, expected: list[int]) -> None:
    selected = files.select(where)
    assert selected is not None
    assert np.flatnonzero(selected).tolist() == expected


def test_the_values_of_a_passages_fields(files: Retriever) -> None:
    names = ["path", "folder", "page", "tags", "title"]
    assert files.fields.values(FILES[3], names) == {"path": "notes.md", "page": 9, "tags": ["red", "blue"]}
    assert files.fields.values(FILES[0], names)["folder"] == ["contracts/2024", "contracts"]
