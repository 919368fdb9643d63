"""Shards on GPUs: who goes where, what is found, and what happens where a GPU cannot. Most of it needs none."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.index import Index, build_index
from ragx.index.dense import nearest, new_index
from ragx.index.faiss_gpu import MOST, Gpu, OnGpu, asked, place
from ragx.retrieval import Retriever
from tests.helpers.toy_embedders import NumberEmbedder, passages

needs_gpu = pytest.mark.skipif(not faiss.get_num_gpus(), reason="FAISS has no GPU here: it takes faiss-gpu and a GPU")
needs_none = pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="FAISS has a GPU here")


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
def test_no_gpu_gets_more_than_it_has_room_for_and_no_shard_stays_that_would_fit(
    sizes: list[int], room: list[int]
) -> None:
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
    everything = list(range(faiss.get_num_gpus()))
    assert asked("cuda") == everything
    assert asked("cuda:0") == everything[:1]
    assert asked(None) == asked("cpu") == asked("auto") == asked("cuda:4711") == []


def test_a_copy_that_rounds_as_gpus_do_finds_what_is_exact() -> None:
    """Of thousands of vectors that differ in their last bits, `SQfp16` confuses most."""
    vectors = random_vectors(1)[0] + 1e-4 * random_vectors(3000)
    exact, rounded = filled("Flat", vectors), filled("SQfp16", vectors)
    for question in random_vectors(5):
        rows, scores = nearest(exact, vectors, question, 10, rerank=4)
        assert set(rounded.search(question[None], 10)[1][0]) != set(rows)
        found = nearest(exact, vectors, question, 10, rerank=4, gpu=OnGpu(exact, rounded, Gpu(0, None)))
        assert (found[0].tolist(), found[1].tolist()) == (rows.tolist(), scores.tolist())


def test_more_than_a_gpu_finds_at_once_is_searched_on_the_cpu() -> None:
    vectors = random_vectors(MOST + 1)
    on_gpu = OnGpu(filled("Flat", vectors), filled("Flat", -vectors), Gpu(0, None))
    (near,), (far,) = (on_gpu.search(vectors[:1], k)[1] for k in (MOST + 1, MOST))
    assert near[0] == 0
    assert 0 not in far


def test_a_gpu_that_fails_is_told_once_and_the_cpu_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = random_vectors(50)
    index, failing = filled("Flat", vectors), new_index("IVF4,Flat", 16)  # untrained: its search raises
    gpu = Gpu(1, None)
    for _ in range(2):
        shard = OnGpu(index, failing, gpu)
        for _ in range(2):
            assert shard.search(vectors[:1], 3)[1].tolist() == index.search(vectors[:1], 3)[1].tolist()
    assert capsys.readouterr().err == "GPU 1 cannot search a shard, the CPU does: IVF index is not trained\n"


@needs_none
def test_where_faiss_has_no_gpu_the_cpu_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = random_vectors(20)
    index = built(tmp_path, vectors, shard_size=7)
    assert Retriever(index, device="cuda").nearest(vectors[3], 5) == Retriever(index).nearest(vectors[3], 5)
    assert capsys.readouterr().err == ""


@needs_gpu
@pytest.mark.parametrize("format", ["float32", "float16"])
def test_a_flat_index_on_gpus_gives_the_cpus_hits(tmp_path: Path, format: str) -> None:
    vectors = np.round(random_vectors(5000), 1)  # many equal scores
    index = built(tmp_path, vectors, vectors=format, shard_size=1300)
    here, there = Retriever(index), Retriever(index, device="cuda")
    assert all(there._copies)
    for question in vectors[:20]:
        for k in (1, 60, 3000):
            assert there.nearest(question, k) == here.nearest(question, k)


@needs_gpu
@pytest.mark.parametrize("kind", ["ivfpq", "IVF16,Flat", "IVF16,SQ8", "PCA12,IVF16,Flat"])
def test_an_approximate_index_on_gpus_finds_what_it_finds_on_the_cpu(tmp_path: Path, kind: str) -> None:
    vectors = random_vectors(5000)
    index = built(tmp_path, vectors, faiss=kind, shard_size=1300)
    here, there = Retriever(index), Retriever(index, device="cuda")
    assert all(there._copies)
    common = 0
    for question in vectors[:50]:
        found, expected = dict(there.nearest(question, 20)), dict(here.nearest(question, 20))
        both = found.keys() & expected.keys()
        assert {row: found[row] for row in both} == {row: expected[row] for row in both}
        common += len(both)
    assert common >= 0.95 * 50 * 20


@needs_gpu
def test_product_codes_whose_tables_are_large_go_to_gpus_too(tmp_path: Path) -> None:
    index = built(tmp_path, random_vectors(1000, 768), faiss="ivfpq")  # 96 tables of 256
    assert all(Retriever(index, device="cuda:0")._copies)


@needs_gpu
def test_hnsw_stays_on_the_cpu_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = random_vectors(50)
    index = built(tmp_path, vectors, faiss="hnsw", shard_size=20)
    assert Retriever(index, device="cuda").nearest(vectors[3], 5) == Retriever(index).nearest(vectors[3], 5)
    told = capsys.readouterr().err
    assert told == "3 of 3 shards are searched on the CPU: This index type is not implemented on GPU.\n"
