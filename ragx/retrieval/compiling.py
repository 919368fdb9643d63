"""Compile a BERT-like sentence-transformers model for the CPU, and keep it on disk (see ragx/models/compiled.py).

embedder.onnx weights.bin   the graph and its weights, float32
settings.json tokenizer.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import ModelError
from ragx.models.compiled import find_or_compile
from ragx.onnx.graph import Graph, WeightsFile
from ragx.retrieval.bert import Bert, build_bert
from ragx.retrieval.compiled_embedder import GRAPH, SETTINGS, TOKENIZER, CompiledEmbedder, CompiledSettings
from ragx.retrieval.sentence_transformer import load_sentence_transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

VERSION = 1
"""Of graphs and settings: another version is compiled anew."""
FAMILIES = {"bert", "camembert", "roberta", "xlm-roberta"}
_PROBES = ["", "Fresh Snow reflects; café, 雪? " * 3, "albedo " * 600]
_TOLERANCE = 1e-3
"""Distance of a compiled model's vector from the original's, in lengths of the latter."""


def open_compiled(folder: Path, name: str, fingerprint: str) -> CompiledEmbedder | None:
    """The model in `folder` compiled for the CPU; compiles it if that has not been done. None: it cannot be compiled.

    Raises:
        ModelError: the model is damaged.
    """
    if not may_compile(folder):
        return None

    def prepare() -> Callable[[Path], object] | None:
        import torch

        model = load_sentence_transformer(folder, name, "cpu", torch.float32)
        return partial(_compile, model) if can_compile(model) else None

    target = find_or_compile(folder, name, f"version {VERSION} of {fingerprint}", prepare)
    return None if target is None else CompiledEmbedder(target, name, fingerprint)


def may_compile(folder: Path) -> bool:
    """Whether the architecture of the model in `folder` can be compiled; reads its settings alone."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever loads the model says what is wrong
    return isinstance(config, dict) and config.get("model_type") in FAMILIES


def can_compile(model: SentenceTransformer) -> bool:
    """Whether a model is one of `FAMILIES` with mean or CLS pooling and nothing that `compile_embedder` leaves out."""
    modules: list[Any] = list(model)
    kinds = [type(module).__name__ for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return False
    return (
        is_plain_bert(modules[0].auto_model.config, model.tokenizer, model.max_seq_length)
        and modules[1].pooling_mode in ("mean", "cls")
        and modules[1].include_prompt
        and model.truncate_dim is None
        and all(getattr(modules[0], each, None) is None for each in ("query_length", "document_length"))
        and getattr(modules[0], "query_expansion", None) is None
    )


def is_plain_bert(config: Any, tokenizer: Any, window: int | None) -> bool:
    """Whether an encoder is one of `FAMILIES` without variations, and its tokenizer one whose ids can be padded."""
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and not config.is_decoder
        and tokenizer.is_fast
        and tokenizer.padding_side == tokenizer.truncation_side == "right"
        and tokenizer.num_special_tokens_to_add() > 0  # no text has no tokens
        and window is not None
        and window <= config.max_position_embeddings - _first_position(config)
    )


def bert_of(config: Any) -> Bert:
    """The shape of an encoder that passes `is_plain_bert`."""
    return Bert(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        first_position=_first_position(config),
    )


def compile_embedder(model: SentenceTransformer, folder: Path) -> None:
    """Write the graph, weights, settings and tokenizer of a float32 model, for which `can_compile`, into a folder."""
    modules: list[Any] = list(model)
    transformer, pooling, *normalize = modules
    state, config = transformer.auto_model.state_dict(), transformer.auto_model.config

    def weights(name: str) -> np.ndarray:
        array: np.ndarray = state[name].numpy()
        return array

    with WeightsFile(folder) as file:
        graph = Graph(file)
        build_bert(graph, bert_of(config), weights, pooling.pooling_mode)
        graph.save(folder / GRAPH)
    settings = CompiledSettings(
        dimension=config.hidden_size,
        window=int(model.max_seq_length or 0),
        unknown=model.tokenizer.unk_token_id,
        pooling=pooling.pooling_mode,
        normalized=bool(normalize),
        question_prompt=_prompt(model, "query"),
        passage_prompt=_prompt(model, "document", "passage", "corpus"),
    )
    (folder / SETTINGS).write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(model.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")


def _prompt(model: SentenceTransformer, *names: str) -> str:
    """What the model puts before a text: the first of these prompts that it has, or its default."""
    name = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return (name and model.prompts.get(name)) or ""


def _first_position(config: Any) -> int:
    return 0 if config.model_type == "bert" else int(config.pad_token_id) + 1


def _compile(model: SentenceTransformer, folder: Path) -> None:
    compile_embedder(model, folder)
    _check(folder, model)


def _check(folder: Path, model: SentenceTransformer) -> None:
    """Raise a `ModelError` unless the compiled model gives the vectors of the original."""
    compiled = CompiledEmbedder(folder, "", "")
    for text in _PROBES:
        vectors, expected = [compiled.encode_question(text)], [model.encode_query(text, show_progress_bar=False)]
        if len(text) < (compiled.window or 0):  # otherwise the vector is the mean over its windows
            vectors.append(compiled.embed_texts([text])[0])
            expected.append(model.encode_document(text, show_progress_bar=False))
        difference = np.linalg.norm(np.subtract(vectors, expected), axis=1) / np.linalg.norm(expected, axis=1)
        if not difference.max() < _TOLERANCE:
            raise ModelError(f"its vectors are off by {difference.max():.1e}")
