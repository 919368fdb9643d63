"""A compiled embedder gives the vectors of sentence-transformers, whatever a text holds and however many there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from ragx.config import IndexSettings
from ragx.index import build_index
from ragx.models import fingerprint, resolve
from ragx.retrieval import TextEmbedder, open_embedder
from ragx.retrieval.compiled_embedder import CompiledEmbedder
from ragx.retrieval.compiling import open_compiled
from ragx.retrieval.loading import load_embedder
from ragx.retrieval.sentence_transformer import SentenceTransformerEmbedder, load_sentence_transformer
from tests.helpers.tiny_encoders import SPECIAL, save_encoder
from tests.helpers.toy_embedders import passages

TEXTS = [
    "",
    " ",
    "snow",
    "Fresh SNOW reflects most of the light; soil absorbs it.",
    "snow light " * 5,
    "albedo " * 90,
    *(f"a {token} b" for token in SPECIAL),
    "café 雪 \u0301\u200b <tool> | _",
    *(f"{number} " * number for number in range(1, 40)),
]


def original(folder: Path) -> TextEmbedder:
    model = load_sentence_transformer(folder, "tiny", "cpu", torch.float32)
    return SentenceTransformerEmbedder(model, "tiny", fingerprint(folder))


def compiled(folder: Path) -> CompiledEmbedder:
    embedder = open_compiled(folder, "tiny", fingerprint(folder))
    assert embedder is not None
    return embedder


def save_modules(folder: Path, transformer: Path, *more: Any, **options: Any) -> Path:
    """A sentence-transformers model around the one in `transformer`."""
    SentenceTransformer(modules=[Transformer(str(transformer)), *more], device="cpu", **options).save(str(folder))
    return folder


def assert_same_vectors(folder: Path) -> None:
    ours, theirs = compiled(folder), original(folder)
    assert (ours.dimension, ours.window) == (theirs.dimension, theirs.window)
    np.testing.assert_allclose(ours.embed_texts(TEXTS), theirs.embed_texts(TEXTS), atol=2e-5)
    for text in TEXTS:
        np.testing.assert_allclose(ours.encode_question(text), theirs.encode_question(text), atol=2e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [[Normalize()], []])
def test_vectors_are_those_of_sentence_transformers(
    kind: str, pooling: Any, normalize: list[Normalize], tmp_path: Path
) -> None:
    network = save_encoder(tmp_path / "network", kind)
    prompts = {"query": "Ask: ", "document": "read "}
    assert_same_vectors(save_modules(tmp_path / "model", network, Pooling(32, pooling), *normalize, prompts=prompts))


def test_a_default_prompt_precedes_questions_and_passages(tmp_path: Path) -> None:
    network = save_encoder(tmp_path / "network")
    model = save_modules(
        tmp_path / "model",
        network,
        Pooling(32),
        prompts={"passage": "page ", "other": "see "},
        default_prompt_name="other",
    )
    assert_same_vectors(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    assert_same_vectors(save_encoder(tmp_path / "model", dtype=dtype))


def test_real_vectors_are_within_a_cosine_of_1e_4() -> None:
    folder = resolve("all-minilm-l6-v2", "embedder")
    texts = [*TEXTS, "albedo of fresh snow, " * 200]
    ours, theirs = compiled(folder).embed_texts(texts), original(folder).embed_texts(texts)
    assert (ours * theirs).sum(axis=1).min() > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


def test_vectors_do_not_depend_on_the_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_encoder(tmp_path / "model")
    vectors = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        vectors.append(compiled(folder).embed_texts(TEXTS))
    assert np.array_equal(*vectors)


# What is not compiled


@pytest.mark.parametrize("what", ["activation", "architecture", "pooling", "module", "prompt", "left"])
def test_any_other_model_is_left_to_sentence_transformers(what: str, tmp_path: Path) -> None:
    options = {"hidden_act": "gelu_new"} if what == "activation" else {}
    network = save_encoder(tmp_path / "network", "electra" if what == "architecture" else "bert", **options)
    modules: list[Any] = [Pooling(32, "max" if what == "pooling" else "mean", include_prompt=what != "prompt")]
    if what == "module":
        modules.append(Dense(32, 8))
    folder = save_modules(tmp_path / "model", network, *modules, prompts={"query": "ask "})
    if what == "left":
        settings = folder / "tokenizer_config.json"
        settings.write_text(settings.read_text().replace("{", '{"padding_side": "left",', 1))
    assert open_compiled(folder, "tiny", fingerprint(folder)) is None
    embedder = load_embedder(folder, name="tiny", fingerprint=fingerprint(folder), device="cpu", dtype="float32")
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), original(folder).embed_texts(TEXTS), atol=2e-5)


def test_number_formats_other_than_float32_are_left_to_torch(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "model")
    for dtype, kind in ((None, CompiledEmbedder), ("auto", CompiledEmbedder), ("float32", CompiledEmbedder),
                        (torch.float32, CompiledEmbedder), ("bfloat16", SentenceTransformerEmbedder)):  # fmt: skip
        embedder = load_embedder(folder, name="tiny", fingerprint=fingerprint(folder), device="cpu", dtype=dtype)
        assert type(embedder) is kind, dtype


# On disk


def test_a_model_is_compiled_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_encoder(tmp_path / "model")
    compiled(folder)
    assert "compiling tiny" in capfd.readouterr().err
    compiled(folder)
    assert capfd.readouterr().err == ""


def test_a_changed_model_is_compiled_anew(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "model")
    before = compiled(folder).encode_question("snow")
    save_encoder(folder, layer_norm_eps=0.5)
    assert not np.allclose(compiled(folder).encode_question("snow"), before, atol=1e-3)
    assert_same_vectors(folder)


@pytest.mark.parametrize(
    "file", ["weights.bin", "embedder.onnx", "settings.json", "tokenizer.json", "ragx-record.json"]
)
def test_a_damaged_copy_is_compiled_anew(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    folder = save_encoder(tmp_path / "model")
    before = compiled(folder).encode_question("snow")
    (damaged,) = (tmp_path / "home" / "compiled").glob(f"*/{file}")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    np.testing.assert_array_equal(compiled(folder).encode_question("snow"), before)


def test_a_cache_that_cannot_be_written_leaves_the_model_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save_encoder(tmp_path / "model")
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    embedder = load_embedder(folder, name="tiny", fingerprint="t", device="cpu")
    assert isinstance(embedder, SentenceTransformerEmbedder)
    assert "tiny runs uncompiled" in capfd.readouterr().err


# Starting


def test_a_search_imports_neither_torch_nor_what_trains_with_it(tmp_path: Path) -> None:
    embedder = open_embedder("all-minilm-l6-v2", "cpu")
    build_index(passages(["Fresh snow reflects light.", "Soil absorbs it."]), tmp_path / "i", embedder, IndexSettings())
    program = """
import sys
from ragx.retrieval import open_index
hits = open_index(sys.argv[1], device="cpu").retriever.search("What reflects light?", 2)
banned = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "pandas", "onnx"}
print(hits[0].passage.text, sorted(banned & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "i")], capture_output=True, text=True)
    assert done.stdout == "Fresh snow reflects light. []\n", done.stderr
