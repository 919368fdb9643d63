"""Vectors stored as float32, float16 or int8: their errors, and search with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ragx.config import IndexSettings
from ragx.errors import ModelError
from ragx.index import Index, build_index, compact_index, read_manifest, update_index, verify
from ragx.index.dense import factory
from ragx.index.vectors import VectorFormat, as_float32, dimension, to_format
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import NumberEmbedder, WordEmbedder, passages

FORMATS: list[VectorFormat] = ["float32", "float16", "int8"]
finite = st.floats(-1e4, 1e4, width=32)
some_vectors = st.tuples(st.integers(0, 5), st.integers(1, 9)).flatmap(lambda s: arrays(np.float32, s, elements=finite))


@pytest.mark.parametrize("format", FORMATS)
@given(vectors=some_vectors)
@example(vectors=np.array([[3.14e-43, 0], [1e-37, -1.6e-36], [1.4e-36, 1]], np.float32))
def test_storing_stored_vectors_again_gives_the_same_bits(format: VectorFormat, vectors: np.ndarray) -> None:
    rows = to_format(vectors, format)
    assert to_format(as_float32(rows), format).tobytes() == rows.tobytes()
    assert dimension(rows) == vectors.shape[1]
    assert as_float32(rows).dtype == np.float32


@given(some_vectors)
def test_int8_error_is_at_most_half_a_step(vectors: np.ndarray) -> None:
    step = np.abs(vectors).max(axis=1, keepdims=True, initial=0) / 127
    assert (np.abs(as_float32(to_format(vectors, "int8")) - vectors) <= 0.502 * step + 1e-30).all()


@given(some_vectors)
def test_float32_is_unchanged_and_float16_is_numpys(vectors: np.ndarray) -> None:
    assert np.array_equal(as_float32(to_format(vectors, "float32")), vectors)
    assert np.array_equal(to_format(vectors, "float16"), vectors.astype(np.float16))


def random_vectors(number: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((number, 16)).astype(np.float32)


def built(folder: Path, numbers: np.ndarray, **values: object) -> Retriever:
    embedder = NumberEmbedder(numbers.shape[1])
    texts = passages([" ".join(map(repr, row)) for row in numbers.tolist()])
    build_index(texts, folder, embedder, IndexSettings.model_validate(values), quiet=True)
    return Retriever(Index.open(folder), embedder)


@pytest.mark.parametrize("shard_size", [37, 300])
def test_flat_is_exact_for_stored_float16(tmp_path: Path, shard_size: int) -> None:
    vectors = np.round(random_vectors(300), 1)  # many equal scores
    retriever = built(tmp_path, vectors, faiss="flat", vectors="float16", shard_size=shard_size)
    rounded = vectors.astype(np.float16).astype(np.float64)
    for question in vectors[:20]:
        scores = (rounded * question).sum(axis=1)
        expected = sorted(range(300), key=lambda row: (-scores[row], row))[:25]
        assert retriever.nearest(question, 25) == [(row, scores[row]) for row in expected]


@pytest.mark.parametrize("faiss", ["flat", "hnsw", "ivfpq"])
def test_all_kinds_and_formats_find_most_hits_and_score_by_stored_vectors(tmp_path: Path, faiss: str) -> None:
    vectors = random_vectors(400)
    for format in FORMATS:
        retriever = built(tmp_path / format, vectors, faiss=faiss, vectors=format, search={"rerank": 16})
        common = 0
        for question in vectors[:20]:
            ranking = retriever.nearest(question, 10)
            for row, score in ranking:
                exact = as_float32(to_format(vectors[row : row + 1], format))[0].astype(np.float64)
                assert score == pytest.approx((exact * question).sum(), rel=1e-12)
            common += len({row for row, _ in ranking} & set(np.argsort(-(vectors @ question))[:10].tolist()))
        assert common / 200 >= 0.9


def test_smaller_formats_take_less_space(tmp_path: Path) -> None:
    sizes = []
    for format in FORMATS:
        built(tmp_path / format, random_vectors(400), vectors=format)
        sizes.append(
            sum(entry.size for name, entry in read_manifest(tmp_path / format).files.items() if "lexical" not in name)
        )
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_without_reranking_the_scores_are_faisss(tmp_path: Path) -> None:
    vectors = random_vectors(400)
    retriever = built(tmp_path, vectors, faiss="PQ4", search={"rerank": 0})
    shard = retriever.index.shards[0]
    scores, rows = shard.faiss.search(vectors[:1], 10)
    assert retriever.nearest(vectors[0], 10) == sorted(
        zip(rows[0].tolist(), scores[0].tolist(), strict=True), key=lambda hit: (-hit[1], hit[0])
    )


@pytest.mark.parametrize("format", FORMATS)
def test_moved_vectors_keep_their_bits(tmp_path: Path, format: VectorFormat) -> None:
    texts = passages([f"snow {n} reflects" for n in range(11)])
    settings = IndexSettings(shard_size=4, vectors=format)
    build_index(texts, tmp_path, WordEmbedder(), settings, quiet=True)
    index = Index.open(tmp_path)
    before = {index.passage(row).id: index.vector(row).tobytes() for row in range(11)}
    update_index(tmp_path, delete=["doc1#0", "doc5#0"], quiet=True)
    compact_index(tmp_path, quiet=True)
    verify(tmp_path)
    after = Index.open(tmp_path)
    assert {after.passage(row).id: after.vector(row).tobytes() for row in after.rows().tolist()} == {
        id: vector for id, vector in before.items() if id not in ("doc1#0", "doc5#0")
    }


def test_an_unfinished_build_in_another_format_is_embedded_again(tmp_path: Path) -> None:
    class Interrupted(WordEmbedder):
        def encode_passages(self, *arguments: object) -> np.ndarray:
            if self.encoded >= 4:
                raise KeyboardInterrupt
            return super().encode_passages(*arguments)  # type: ignore[arg-type]

    texts = passages([f"snow {n}" for n in range(6)])
    with pytest.raises(KeyboardInterrupt):
        build_index(texts, tmp_path, Interrupted(), IndexSettings(shard_size=2), quiet=True)
    embedder = WordEmbedder()
    build_index(texts, tmp_path, embedder, IndexSettings(shard_size=2, vectors="int8"), quiet=True)
    assert embedder.encoded == 6
    verify(tmp_path)


def test_numbers_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too large for float16"):
        built(tmp_path, np.full((3, 4), 1e6, np.float32), vectors="float16")


@pytest.mark.parametrize(
    ("kind", "format", "number", "dimension", "expected"),
    [
        ("Flat", "float32", 10, 8, "Flat"),
        ("flat", "int8", 10, 8, "SQ8"),
        ("binary", "float16", 10, 8, "RaBitQfs"),
        ("hnsw", "float16", 10, 8, "HNSW32_SQfp16"),
        ("ivfpq", "float32", 100_000, 384, "IVF1024,PQ48"),
        ("ivfpq", "int8", 1, 7, "IVF1,PQ1"),
        ("IVF8,Flat", "int8", 10, 8, "IVF8,Flat"),
    ],
)
def test_factory_strings_depend_on_the_size_of_the_shard(
    kind: str, format: VectorFormat, number: int, dimension: int, expected: str
) -> None:
    assert factory(kind, format, number, dimension) == expected
