"""The first dimensions of an embedder's vectors, with their length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragx.config import IndexSettings, embedder_model
from ragx.errors import ModelError
from ragx.index import Index, build_index
from ragx.retrieval import Retriever, open_embedder
from ragx.retrieval.rerankers.loading import open_reranker
from tests.helpers.tiny_encoders import save_encoder
from tests.helpers.toy_embedders import passages

TEXTS = ["snow reflects light", "soil", "the sea is blue " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bert"))


def test_vectors_are_cut_and_keep_their_length(folder: Path) -> None:
    whole, cut = open_embedder(str(folder)), open_embedder(f"{folder}:8")
    expected = whole.embed_texts(TEXTS[:2])
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    expected = expected[:, :8] / np.linalg.norm(expected[:, :8], axis=1, keepdims=True) * lengths
    np.testing.assert_allclose(cut.embed_texts(TEXTS[:2]), expected, rtol=1e-5)
    np.testing.assert_allclose(cut.encode_question(TEXTS[0]), expected[0], rtol=1e-4)
    assert cut.embed_texts(TEXTS).shape == (3, cut.dimension) == (3, 8)


def test_normalised_vectors_stay_normalised() -> None:
    vectors = open_embedder("all-minilm-l6-v2:96").embed_texts(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_model_cut_otherwise_is_another_embedder(folder: Path) -> None:
    embedders = [open_embedder(name) for name in (str(folder), f"{folder}:8", f"{folder}:9")]
    assert len({embedder.fingerprint for embedder in embedders}) == 3
    assert [embedder.name for embedder in embedders] == [str(folder), f"{folder}:8", f"{folder}:9"]


def test_an_index_remembers_the_dimensions(folder: Path, tmp_path: Path) -> None:
    settings = IndexSettings(embedder=f"{folder}:8")
    build_index(passages(TEXTS), tmp_path, open_embedder(settings.embedder), settings, quiet=True)
    index = Index.open(tmp_path)
    assert index.vector(0).shape == (8,)
    hits = Retriever(index, open_embedder(index.manifest.embedder.name)).search("soil", 1, "dense")
    assert hits[0].passage.text == "soil"


@pytest.mark.parametrize("dimensions", [0, 32, 33, 10**30])
def test_only_fewer_dimensions_can_be_kept(folder: Path, dimensions: int) -> None:
    with pytest.raises(ModelError, match="32 dimensions"):
        open_embedder(f"{folder}:{dimensions}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("minilm:96", ("minilm", 96)), ("minilm", ("minilm", None)), (":96", (":96", None)), ("C:/m", ("C:/m", None))],
)
def test_a_number_after_a_colon_is_the_number_of_dimensions(name: str, expected: tuple[str, int | None]) -> None:
    assert embedder_model(name) == expected


def test_the_reranker_goes_with_the_model() -> None:
    assert open_reranker("auto", "cpu", "all-minilm-l6-v2:96") is open_reranker("auto", "cpu", "all-minilm-l6-v2")
