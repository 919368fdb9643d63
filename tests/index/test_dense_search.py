"""Dense search is exact in any sharding, and approximate indexes rank by exact scores."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.errors import ConfigError
from ragx.index import Index, build_index
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import NumberEmbedder, passages

APPROXIMATE = ["binary", "HNSW32", "IVF16,Flat", "IVF16,PQ8x4", "PCA12,IVF16,Flat", "SQ8", "IVF16,SQ8,RFlat"]


def as_text(vector: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in vector)


def in_float16(numbers: np.ndarray) -> np.ndarray:
    """As they are stored by default, so that brute force has the numbers that are searched."""
    return numbers.astype(np.float16).astype(np.float32)


def build(folder: Path, vectors: np.ndarray, **values: object) -> Retriever:
    embedder = NumberEmbedder(vectors.shape[1])
    texts = passages([as_text(vector) for vector in vectors])
    build_index(texts, folder, embedder, IndexSettings.model_validate(values), quiet=True)
    return Retriever(Index.open(folder), embedder)


def search(retriever: Retriever, question: np.ndarray, k: int) -> list[tuple[str, float]]:
    return [(hit.passage.id, hit.score) for hit in retriever.search(as_text(question), k, "dense")]


def brute_force(vectors: np.ndarray, question: np.ndarray, k: int) -> list[tuple[str, float]]:
    scores = (vectors.astype(np.float64) * question.astype(np.float64)).sum(axis=1)
    order = sorted(range(len(vectors)), key=lambda row: (-scores[row], row))
    return [(f"doc{row}#0", scores[row]) for row in order[:k]]


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    dimension = draw(st.integers(1, 3))
    # with few small integers, many passages have the same score
    integer = st.lists(st.integers(-1, 1), min_size=dimension, max_size=dimension)
    vectors = np.array(draw(st.lists(integer, min_size=1, max_size=70)), np.float32)
    question = np.array(draw(integer), np.float32)
    return vectors, question, draw(st.integers(1, len(vectors))), draw(st.integers(1, len(vectors) + 3))


@settings(deadline=None, max_examples=40)
@given(searches())
def test_flat_equals_brute_force_in_any_sharding_including_ties(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    vectors, question, shard_size, k = case
    with TemporaryDirectory() as folder:
        retriever = build(Path(folder), vectors, shard_size=shard_size)
        assert search(retriever, question, k) == brute_force(vectors, question, k)


@pytest.mark.parametrize("k", [1, 5, 20, 40, 299])
def test_hundreds_of_ties_are_in_passage_order(tmp_path: Path, k: int) -> None:
    vectors = np.array([[1]] * 200 + [[2]] * 3 + [[1]] * 100, np.float32)
    assert search(build(tmp_path, vectors), vectors[0], k) == brute_force(vectors, vectors[0], k)


def test_scores_do_not_depend_on_the_sharding(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors, questions = (in_float16(random.standard_normal((n, 384))) for n in (300, 5))
    retrievers = [build(tmp_path / str(size), vectors, shard_size=size) for size in (37, 100, 299, 300)]
    for question in questions:
        expected = brute_force(vectors, question, 50)
        for retriever in retrievers:
            hits = search(retriever, question, 50)
            assert [id for id, _ in hits] == [id for id, _ in expected]
            assert dict(hits) == pytest.approx(dict(expected), rel=1e-12)


def test_k_beyond_the_corpus_returns_all_passages(tmp_path: Path) -> None:
    vectors = np.eye(5, dtype=np.float32)
    assert len(search(build(tmp_path, vectors, shard_size=2), vectors[0], 1000)) == 5


@pytest.mark.parametrize("factory", APPROXIMATE)
def test_approximate_indexes_find_most_neighbours_with_exact_scores(tmp_path: Path, factory: str) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((20, 16))
    vectors = in_float16(centres[random.integers(0, 20, 1000)] + 0.3 * random.standard_normal((1000, 16)))
    retriever = build(tmp_path, vectors, faiss=factory, shard_size=500)
    recalls = []
    for row in range(0, 1000, 50):
        hits = search(retriever, vectors[row], 10)
        scores = dict(brute_force(vectors, vectors[row], len(vectors)))
        assert hits == sorted(hits, key=lambda hit: -hit[1])
        assert all(score == pytest.approx(scores[id], rel=1e-12) for id, score in hits)
        recalls.append(len({id for id, _ in hits} & set(list(scores)[:10])) / 10)
    assert np.mean(recalls) >= 0.9


@pytest.mark.parametrize("factory", ["Foo", "", "IVF", "PQ7", "LSH"])
def test_an_invalid_factory_string_is_refused_before_reading(tmp_path: Path, factory: str) -> None:
    def never() -> object:
        raise AssertionError("read")
        yield

    with pytest.raises(ConfigError, match="not an inner-product index") as error:
        build_index(never(), tmp_path / "index", NumberEmbedder(16), IndexSettings(faiss=factory))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("factory", "needed"),
    [("IVF64,Flat", "64"), ("PQ8", "256"), ("IVF4,PQ8", "256"), ("HNSW8_PQ8", "256"), ("PCA8,IVF4096,Flat", "4,096")],
)
def test_too_few_passages_for_training_are_refused_before_embedding(tmp_path: Path, factory: str, needed: str) -> None:
    embedder = NumberEmbedder(16)
    texts = passages([as_text(np.full(16, number)) for number in range(40)])
    with pytest.raises(ConfigError, match=f"needs at least {needed} passages"):
        build_index(texts, tmp_path, embedder, IndexSettings(faiss=factory), quiet=True)
    assert embedder.encoded == 0


def test_a_last_shard_too_small_for_training_is_searched_exactly(tmp_path: Path) -> None:
    vectors = in_float16(np.random.default_rng(0).standard_normal((105, 8)))
    retriever = build(tmp_path, vectors, faiss="IVF32,Flat", shard_size=100)
    assert search(retriever, vectors[103], 1) == brute_force(vectors, vectors[103], 1)


def test_opening_an_index_restores_faiss_limits(folder: Path) -> None:
    import faiss

    before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    Index.open(folder)
    assert (faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()) == before
