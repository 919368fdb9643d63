"""Shards on GPUs: placement, results, and the CPU as a fallback. Most tests need no GPU."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.index import Index, build_index
from ragx.index.dense import new_index
from ragx.index.faiss_gpu import MAX_CANDIDATES, Gpu, GpuIndex, gpu_numbers, place
from ragx.index.nearest import nearest
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import NumberEmbedder, passages

needs_gpu = pytest.mark.skipif(not faiss.get_num_gpus(), reason="needs faiss-gpu and a GPU")
needs_no_gpu = pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="FAISS has a GPU here")


def random_vectors(number: int, dimension: int = 16) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((number, dimension)).astype(np.float32)


def filled(factory: str, vectors: np.ndarray) -> faiss.Index:
    index = new_index(factory, vectors.shape[1])
    index.add(vectors)
    return index


def built(folder: Path, vectors: np.ndarray, **values: object) -> Index:
    texts = passages([" ".join(map(repr, row)) for row in vectors.tolist()])
    build_index(texts, folder, NumberEmbedder(vectors.shape[1]), IndexSettings.model_validate(values), quiet=True)
    return Index.open(folder)


@given(st.lists(st.integers(0, 9), max_size=9), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_shards_fit_into_their_gpus_and_stay_only_if_none_has_room(sizes: list[int], room: list[int]) -> None:
    left = list(room)
    for size, gpu in zip(sizes, place(sizes, room), strict=True):
        if gpu is None:
            assert size > max(left)
        else:
            left[gpu] -= size
    assert min(left) >= 0


def test_gpus_take_turns() -> None:
    assert place([5, 5, 5, 5], [10, 10]) == [0, 1, 0, 1]
    assert place([5, 5, 5], [15, 5]) == [0, 1, 0]
    assert place([20, 5], [10, 10]) == [None, 0]  # the next one may fit


def test_a_device_means_all_gpus_one_or_none() -> None:
    all_gpus = list(range(faiss.get_num_gpus()))
    assert gpu_numbers("cuda") == all_gpus
    assert gpu_numbers("cuda:0") == all_gpus[:1]
    assert gpu_numbers(None) == gpu_numbers("cpu") == gpu_numbers("auto") == gpu_numbers("cuda:4711") == []


def test_a_copy_that_rounds_like_a_gpu_gives_exact_results() -> None:
    """`SQfp16` confuses most of these vectors, which differ only in their last bits."""
    vectors = random_vectors(1)[0] + 1e-4 * random_vectors(3000)
    exact, rounded = filled("Flat", vectors), filled("SQfp16", vectors)
    for question in random_vectors(5):
        rows, scores = nearest(exact, vectors, question, 10, rerank=4)
        assert set(rounded.search(question[None], 10)[1][0]) != set(rows)
        result = nearest(exact, vectors, question, 10, rerank=4, gpu=GpuIndex(exact, rounded, Gpu(0, None)))
        assert (result[0].tolist(), result[1].tolist()) == (rows.tolist(), scores.tolist())


def test_the_cpu_searches_for_more_candidates_than_a_gpu_can() -> None:
    vectors = random_vectors(MAX_CANDIDATES + 1)
    gpu_index = GpuIndex(filled("Flat", vectors), filled("Flat", -vectors), Gpu(0, None))
    (cpu_rows,), (gpu_rows,) = (gpu_index.search(vectors[:1], k)[1] for k in (MAX_CANDIDATES + 1, MAX_CANDIDATES))
    assert cpu_rows[0] == 0
    assert 0 not in gpu_rows


def test_a_failing_gpu_is_reported_once_and_replaced_by_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = random_vectors(50)
    index, failing = filled("Flat", vectors), new_index("IVF4,Flat", 16)  # untrained: its search raises
    gpu = Gpu(1, None)
    for _ in range(2):
        shard = GpuIndex(index, failing, gpu)
        for _ in range(2):
            assert shard.search(vectors[:1], 3)[1].tolist() == index.search(vectors[:1], 3)[1].tolist()
    (line,) = capsys.readouterr().err.splitlines()
    assert "GPU 1 cannot search" in line


@needs_no_gpu
def test_without_a_gpu_the_cpu_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = random_vectors(20)
    index = built(tmp_path, vectors, shard_size=7)
    assert Retriever(index, device="cuda").nearest(vectors[3], 5) == Retriever(index).nearest(vectors[3], 5)
    assert capsys.readouterr().err == ""


@needs_gpu
@pytest.mark.parametrize("format", ["float32", "float16"])
def test_a_flat_index_gives_the_same_hits_on_gpus_and_cpu(tmp_path: Path, format: str) -> None:
    vectors = np.round(random_vectors(5000), 1)  # many equal scores
    index = built(tmp_path, vectors, vectors=format, shard_size=1300)
    on_cpu, on_gpus = Retriever(index), Retriever(index, device="cuda")
    assert all(on_gpus._copies)
    for question in vectors[:20]:
        for k in (1, 60, 3000):
            assert on_gpus.nearest(question, k) == on_cpu.nearest(question, k)


@needs_gpu
@pytest.mark.parametrize("kind", ["ivfpq", "IVF16,Flat", "IVF16,SQ8", "PCA12,IVF16,Flat"])
def test_an_approximate_index_gives_similar_hits_on_gpus_and_cpu(tmp_path: Path, kind: str) -> None:
    vectors = random_vectors(5000)
    index = built(tmp_path, vectors, faiss=kind, shard_size=1300)
    on_cpu, on_gpus = Retriever(index), Retriever(index, device="cuda")
    assert all(on_gpus._copies)
    common = 0
    for question in vectors[:50]:
        hits, expected = dict(on_gpus.nearest(question, 20)), dict(on_cpu.nearest(question, 20))
        both = hits.keys() & expected.keys()
        assert {row: hits[row] for row in both} == {row: expected[row] for row in both}
        common += len(both)
    assert common >= 0.95 * 50 * 20


@needs_gpu
def test_product_quantization_with_large_tables_fits_gpus(tmp_path: Path) -> None:
    index = built(tmp_path, random_vectors(1000, 768), faiss="ivfpq")  # 96 tables of 256
    assert all(Retriever(index, device="cuda:0")._copies)


@needs_gpu
def test_hnsw_stays_on_the_cpu_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = random_vectors(50)
    index = built(tmp_path, vectors, faiss="hnsw", shard_size=20)
    assert Retriever(index, device="cuda").nearest(vectors[3], 5) == Retriever(index).nearest(vectors[3], 5)
    assert "3 of 3 shards are searched on the CPU" in capsys.readouterr().err
