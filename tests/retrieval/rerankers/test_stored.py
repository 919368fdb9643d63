"""A cross-encoder of ragx's own: in int8, around the embeddings of an embedder that is installed anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ragx import models
from ragx.errors import ModelError
from ragx.retrieval.rerankers import open_reranker
from ragx.retrieval.rerankers.compiled import CompiledCrossEncoder
from ragx.retrieval.rerankers.stored import quantize_reranker
from tests.helpers.command import RunCommand
from tests.helpers.tiny_cross_encoders import change_config, logits, pair_tokenizer, save_cross_encoder, save_trained
from tests.helpers.tiny_encoders import save_encoder
from tests.helpers.toy_embedders import passages

TEXTS = ["snow", "Fresh snow reflects light; soil absorbs it.", "", "albedo " * 30]


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    folder = save_encoder(tmp_path / "embedder")
    pair_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def trained(tmp_path: Path, embedder: Path) -> Path:
    return save_trained(tmp_path / "trained", embedder)


@pytest.fixture
def stored(tmp_path: Path, trained: Path, embedder: Path) -> Path:
    quantize_reranker(trained, tmp_path / "stored", str(embedder))
    return tmp_path / "stored"


def round_matrices(folder: Path) -> None:
    """To 255 steps a row, except those of embeddings and the classifier's only row."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and len(tensor) > 1 and ".embeddings." not in name:
            scale = np.abs(tensor).max(axis=1, keepdims=True) / 127
            tensors[name] = np.rint(tensor / scale) * scale
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_scores_are_those_of_the_trained_model_but_for_rounding(stored: Path, trained: Path) -> None:
    reranker = open_reranker(str(stored), "cpu")
    assert isinstance(reranker, CompiledCrossEncoder)
    question, scores = "Why is fresh snow bright?", {}
    for name in ("trained", "rounded"):
        scores[name] = logits(trained, question, TEXTS)
        round_matrices(trained)
    found = reranker.scores(question, passages(TEXTS))
    np.testing.assert_allclose(found, scores["rounded"], atol=1e-4)
    np.testing.assert_allclose(found, scores["trained"], atol=0.01)


def test_what_the_embedder_has_is_not_stored_again(stored: Path) -> None:
    assert {path.name for path in stored.iterdir()} == {"config.json", "model.safetensors"}
    tensors = load_file(stored / "model.safetensors")
    assert not any(".embeddings." in name for name in tensors)
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and len(tensor) > 1:
            assert tensor.dtype == np.int8
            assert tensors[f"{name}.scale"].shape == (len(tensor),)


def test_the_command_quantizes_a_reranker(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = models.resolve("all-minilm-l6-v2", "embedder")
    trained = save_trained(tmp_path / "trained", base)
    run = run_command("models", "quantize", trained, tmp_path / "small")
    assert (run.code, run.out) == (0, f"{tmp_path / 'small'}\n"), run.err
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) < 11e6
    assert open_reranker(str(tmp_path / "small"), "cpu") is not None
    again = run_command("models", "quantize", tmp_path / "small", tmp_path / "smaller")
    assert again.code == 2
    assert "already in int8" in again.err


def test_embeddings_that_were_trained_are_refused(tmp_path: Path, embedder: Path) -> None:
    trained = save_trained(tmp_path / "trained", embedder, frozen=False)
    with pytest.raises(ModelError, match="freeze"):
        quantize_reranker(trained, tmp_path / "stored", str(embedder))
    with pytest.raises(ModelError, match="freeze"):
        quantize_reranker(save_cross_encoder(tmp_path / "other", "roberta"), tmp_path / "stored", str(embedder))


def test_another_version_of_the_embedder_is_refused(stored: Path, embedder: Path) -> None:
    save_encoder(embedder, layer_norm_eps=0.5, hidden_size=64)
    with pytest.raises(ModelError, match="different version"):
        open_reranker(str(stored), "cpu")


def test_a_missing_embedder_is_named(stored: Path) -> None:
    change_config(stored, embedder={"name": "owl", "sha256": {}})
    with pytest.raises(ModelError, match="owl"):
        open_reranker(str(stored), "cpu")
    change_config(stored, embedder="owl")
    with pytest.raises(ModelError, match="does not name its embedder"):
        open_reranker(str(stored), "cpu")


@pytest.mark.parametrize("lost", ["bert.encoder.layer.1.output.dense.weight.scale", "classifier.weight"])
def test_a_missing_weight_is_an_error(lost: str, stored: Path) -> None:
    tensors = load_file(stored / "model.safetensors")
    del tensors[lost]
    save_file(tensors, stored / "model.safetensors")
    with pytest.raises(ModelError, match="weight"):
        open_reranker(str(stored), "cpu")
