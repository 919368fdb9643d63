"""`late` and `attention` are computed by the reader in use, from the encodings that it keeps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ragx.config import EncodingOptions
from ragx.errors import ModelError
from ragx.reader.cepe import CepeReader
from ragx.reader.loading import open_reader
from ragx.reader.reranking import open_reranker
from ragx.types import Passage
from tests.helpers.command import RunCommand
from tests.helpers.tiny import save_decoder, save_projection_of, save_tiny_reader
from tests.helpers.tiny_cross_encoders import save_cross_encoder
from tests.helpers.toy_embedders import passages

TEXTS = ["fresh snow reflects light", "dark soil", "", "the sea is blue " * 40, "snow"]


def open_tiny(folder: Path, *, backend: str = "torch", cache_size: float = 1.0) -> CepeReader:
    return open_reader(EncodingOptions(model=str(folder), device="cpu", backend=backend, cache_size=cache_size))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory, tiny_decoder: Path) -> Path:
    """A decoder that both backends can run."""
    folder = Path(shutil.copytree(tiny_decoder, tmp_path_factory.mktemp("decoder"), dirs_exist_ok=True))
    save_decoder(folder, vocab_size=340, hidden_size=64, head_dim=16)
    return folder


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps compiled readers and encodings out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGX_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, home: None, decoder: Path) -> Path:
    """A reader with a projection that changes nothing."""
    reader = save_tiny_reader(tmp_path_factory.mktemp("reader"), decoder)
    save_projection_of(reader)
    return reader


def expected(reader: CepeReader, question: str, passage: Passage) -> float:
    """The mean over the question's tokens of their best cosine, from encodings that are kept nowhere."""
    texts = (question, "\n".join(filter(None, (passage.title, passage.text))))
    asked, read = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in map(reader.encode_text, texts))
    return float((asked @ read.T).max(axis=1).mean())


@pytest.mark.parametrize(("backend", "cache_size"), [("torch", 1.0), ("torch", 0.0), ("cpu", 1.0)])
def test_late_compares_the_reader_s_own_encodings(backend: str, cache_size: float, folder: Path) -> None:
    reader = open_tiny(folder, backend=backend, cache_size=cache_size)
    reranker = open_reranker("late", reader=lambda: reader)
    assert reranker is not None
    given = [each for each in passages(TEXTS) if each.text or each.title]
    wanted = [expected(reader, "does snow reflect?", each) for each in given]
    for _ in range(2):  # encoded, then read from disk
        np.testing.assert_allclose(reranker.scores("does snow reflect?", given), wanted, atol=0.01)
    if cache_size:
        assert reader.store is not None
        assert reader.store.stats.hits >= len(given)


def test_passages_that_late_encoded_are_not_encoded_to_be_read(folder: Path) -> None:
    reader = open_tiny(folder)
    assert reader.store is not None
    reranker = open_reranker("late", reader=lambda: reader)
    assert reranker is not None
    reranker.scores("snow?", passages(TEXTS))
    misses = reader.store.stats.misses
    reader.encode_all(passages(TEXTS))
    assert reader.store.stats.misses == misses


def test_another_reader_can_be_named(folder: Path) -> None:
    reranker = open_reranker(f"late:{folder}", "cpu", reader=lambda: pytest.fail("the reader in use is not needed"))
    assert reranker is not None
    assert reranker.name == f"late:{folder}"
    assert np.isfinite(reranker.scores("snow?", passages(["snow", "soil"]))).all()


def test_a_reader_without_a_projection_or_of_another_encoder_is_one_line(
    folder: Path, tiny_decoder: Path, tmp_path: Path
) -> None:
    other = save_tiny_reader(tmp_path / "other", tiny_decoder)
    with pytest.raises(ModelError, match=r"other has no late\.safetensors"):
        open_reranker(f"late:{other}", "cpu")
    with pytest.raises(ModelError, match="no trained CEPE reader"):
        open_reranker(f"late:{tiny_decoder}", "cpu")


def test_quantizing_a_reader_keeps_its_projection(folder: Path, tmp_path: Path, run_command: RunCommand) -> None:
    run = run_command("models", "quantize", folder, tmp_path / "int8")
    assert run.code == 0, run.err
    assert open_reranker(f"late:{tmp_path / 'int8'}", "cpu") is not None


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_attention_orders_by_shares_of_one_pass(backend: str, folder: Path) -> None:
    reader = open_tiny(folder, backend=backend)
    reranker = open_reranker("attention", reader=lambda: reader)
    assert reranker is not None
    given = passages(["fresh snow reflects light", "dark soil", "the sea is blue " * 9])
    scores = reranker.scores("does snow reflect?", given)
    assert scores.shape == (3,)
    assert scores.sum() == pytest.approx(1, abs=1e-3)
    again = reranker.scores("does snow reflect?", given[::-1])
    np.testing.assert_allclose(again[::-1], scores, atol=1e-4)  # the order of passages changes nothing


def test_other_names_mean_what_they_did(tmp_path: Path) -> None:
    assert open_reranker("none") is None
    reranker = open_reranker(
        str(save_cross_encoder(tmp_path / "model")), "cpu", reader=lambda: pytest.fail("not needed")
    )
    assert reranker is not None
    assert reranker.order == 0
