"""Cross-encoders score as sentence-transformers does, compiled or not, whatever a text holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ragx import models
from ragx.errors import ConfigError, ModelError
from ragx.retrieval.rerankers import Reranker, open_reranker
from ragx.retrieval.rerankers.compiled import CompiledCrossEncoder
from ragx.retrieval.rerankers.compiling import open_compiled
from ragx.retrieval.rerankers.cross_encoder import CrossEncoderReranker, load_cross_encoder
from ragx.types import Passage
from tests.helpers.tiny_cross_encoders import change_config, logits, save_cross_encoder
from tests.helpers.tiny_encoders import SPECIAL, save_encoder
from tests.helpers.toy_embedders import passages

QUESTIONS = ["", "snow", "How much light does fresh snow reflect?", "albedo " * 90, "café 雪 _"]
TEXTS = [
    "",
    "snow",
    "Fresh SNOW reflects light; soil absorbs it.",
    "albedo " * 90,
    *("snow " * n for n in range(1, 30)),
]


def opened(folder: Path) -> Reranker:
    reranker = open_reranker(str(folder), "cpu")
    assert reranker is not None
    return reranker


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_compiled_scores_are_those_of_sentence_transformers(kind: str, tmp_path: Path) -> None:
    reranker = opened(save_cross_encoder(tmp_path / "model", kind))
    assert isinstance(reranker, CompiledCrossEncoder)
    for question in QUESTIONS:
        expected = logits(tmp_path / "model", question, TEXTS)
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(reranker.scores(question, passages(TEXTS)), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["electra", "distilbert"])
def test_any_other_architecture_is_computed_by_torch(kind: str, tmp_path: Path) -> None:
    reranker = opened(save_cross_encoder(tmp_path / "model", kind))
    assert isinstance(reranker, CrossEncoderReranker)
    for question in QUESTIONS:
        expected = logits(tmp_path / "model", question, TEXTS)
        np.testing.assert_allclose(reranker.scores(question, passages(TEXTS)), expected, atol=1e-4)


def test_title_headings_and_text_are_read(tmp_path: Path) -> None:
    reranker = opened(save_cross_encoder(tmp_path / "model"))
    passage = Passage("a#0", "a", "Snow", "It is bright.", 0, 0, 13, "a.txt", headings="Light > Albedo")
    expected = logits(tmp_path / "model", "why?", ["Snow Light > Albedo It is bright."])
    np.testing.assert_allclose(reranker.scores("why?", [passage]), expected, atol=1e-4)


def test_control_strings_are_text(tmp_path: Path) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    both = [opened(folder), CrossEncoderReranker(load_cross_encoder(folder, "tiny", "cpu"), "tiny")]
    texts = [f"a {token} b" for token in SPECIAL]
    for question in ("snow", *texts):
        compiled, torch = (reranker.scores(question, passages(texts)) for reranker in both)
        np.testing.assert_allclose(compiled, torch, atol=1e-4)
    # a separator token would make one passage look like two texts
    as_control = logits(folder, "snow", ["a [SEP] b"])
    assert abs(both[0].scores("snow", passages(["a [SEP] b"])) - as_control) > 1e-3


def test_scores_depend_neither_on_threads_nor_on_the_other_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    scores = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        reranker = open_compiled(folder, "tiny")
        assert reranker is not None
        scores.append(reranker.scores("snow", passages(TEXTS)))
        alone = [reranker.scores("snow", passages([text]))[0] for text in TEXTS]
        np.testing.assert_allclose(alone, scores[0], atol=1e-5)
    assert np.array_equal(*scores)


def test_a_changed_model_is_compiled_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    for changes in ({}, {}, {"layer_norm_eps": 0.5}):
        save_cross_encoder(folder, **changes)
        reranker = open_compiled(folder, "tiny")
        assert reranker is not None
        expected = logits(folder, "snow", TEXTS)
        np.testing.assert_allclose(reranker.scores("snow", passages(TEXTS)), expected, atol=1e-4)
    assert capfd.readouterr().err.count("compiling tiny") == 2


def test_a_cache_that_cannot_be_written_leaves_the_model_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    assert isinstance(opened(folder), CrossEncoderReranker)
    assert "runs uncompiled" in capfd.readouterr().err


def test_a_model_stays_loaded(tmp_path: Path) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    assert opened(folder) is opened(folder)


# What is refused


def test_none_is_no_reranker() -> None:
    assert open_reranker("none") is None


def test_auto_is_the_reranker_that_goes_with_the_embedder() -> None:
    reranker = open_reranker("auto", "cpu", "all-minilm-l6-v2")
    assert reranker is not None
    passages = [Passage(text, text, "", text, 0, 0, len(text), "a") for text in ("a dog barks", "Paris is in France")]
    dog, paris = reranker.scores("Where is Paris?", passages)
    assert paris > dog
    assert open_reranker("auto", "cpu", "multilingual-minilm") is None


def test_auto_without_the_embedder_is_a_notice(tmp_path: Path) -> None:
    script = (
        "from ragx.retrieval.rerankers import open_reranker; print(open_reranker('auto', 'cpu', 'all-minilm-l6-v2'))"
    )
    environment = os.environ | {"RAGX_HOME": str(tmp_path), "RAGX_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert "not reranked" in done.stderr


def test_a_classifier_of_several_classes_is_refused(tmp_path: Path) -> None:
    for kind in ("bert", "electra"):
        with pytest.raises(ModelError, match="3 classes"):
            open_reranker(str(save_cross_encoder(tmp_path / kind, kind, labels=3)), "cpu")


def test_other_kinds_of_models_are_refused(tmp_path: Path, tiny_decoder: Path) -> None:
    with pytest.raises(ModelError, match="is an embedder; this needs a reranker"):
        open_reranker(str(save_encoder(tmp_path / "embedder")), "cpu")
    with pytest.raises(ModelError, match="is a decoder"):
        open_reranker(str(tiny_decoder), "cpu")
    with pytest.raises(ModelError, match="this needs an embedder"):
        models.resolve(str(save_cross_encoder(tmp_path / "reranker")), "embedder")


def test_a_missing_model_and_a_missing_device_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'owl'"):
        open_reranker("owl", "cpu")
    with pytest.raises(ConfigError, match="warp"):
        open_reranker(str(save_cross_encoder(tmp_path / "model")), "warp:1")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_model_is_an_error(file: str, tmp_path: Path) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    (folder / file).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="model"):
        open_reranker(str(folder), "cpu")


def test_a_model_without_a_classifier_is_refused(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path / "model")
    change_config(encoder, architectures=["BertForSequenceClassification"], id2label={"0": "LABEL_0"})
    with pytest.raises(ModelError, match=r"has no weight classifier\."):
        open_reranker(str(encoder), "cpu")


def test_a_model_that_needs_code_is_refused(tmp_path: Path) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    change_config(folder, auto_map={"AutoModel": "code.Model"})
    with pytest.raises(ModelError, match="its own code"):
        open_reranker(str(folder), "cpu")


# Starting


def test_a_compiled_reranker_imports_neither_torch_nor_what_trains_with_it(tmp_path: Path) -> None:
    folder = save_cross_encoder(tmp_path / "model")
    opened(folder)
    program = """
import sys
from ragx.retrieval.rerankers import open_reranker
from ragx.types import Passage
scores = open_reranker(sys.argv[1], "cpu").scores("snow", [Passage("a", "a", "", "snow", 0, 0, 4, "a")])
banned = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "pandas", "onnx", "httpx"}
print(scores.shape, sorted(banned & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True)
    assert done.stdout == "(1,) []\n", done.stderr
