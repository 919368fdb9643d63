"""Compile a BERT-like cross-encoder for the CPU, and keep it on disk (see ragx/models/compiled.py).

reranker.onnx weights.bin   the graph and its weights, float32
settings.json tokenizer.json
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx import models
from ragx.errors import ModelError
from ragx.models.compiled import find_or_compile
from ragx.onnx.graph import Graph, WeightsFile
from ragx.retrieval.bert import Bert, build_cross_encoder
from ragx.retrieval.compiling import bert_of, is_plain_bert, may_compile
from ragx.retrieval.rerankers.calibration import Calibration
from ragx.retrieval.rerankers.compiled import GRAPH, SETTINGS, TOKENIZER, CompiledCrossEncoder, CompiledSettings
from ragx.retrieval.rerankers.cross_encoder import load_cross_encoder
from ragx.retrieval.rerankers.stored import standard_folder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

VERSION = 1
"""Of graphs and settings: another version is compiled anew."""
_PROBES = ["", "Fresh Snow reflects; café, 雪? " * 3, "albedo " * 600]
_TOLERANCE = 1e-3
"""Difference of a compiled model's score from the original's, plus as much of the score itself."""


def open_compiled(folder: Path, name: str, calibration: Calibration | None = None) -> CompiledCrossEncoder | None:
    """The model in `folder` compiled for the CPU; compiles it if that has not been done. None: it cannot be compiled.

    Raises:
        ModelError: the model is damaged.
    """
    if not may_compile(folder):
        return None

    def prepare() -> Callable[[Path], object] | None:
        with standard_folder(folder, name) as standard:
            model = load_cross_encoder(standard, name, "cpu")
        return partial(_compile, model) if can_compile(model) else None

    target = find_or_compile(folder, name, f"version {VERSION} of reranker {models.fingerprint(folder)}", prepare)
    return None if target is None else CompiledCrossEncoder(target, name, calibration)


def can_compile(model: CrossEncoder) -> bool:
    """Whether a model is one of `FAMILIES` with a classifier over its first token, and reads texts unchanged."""
    modules: list[Any] = list(model)
    if [type(module).__name__ for module in modules] != ["Transformer"]:
        return False
    network = modules[0].auto_model
    return (
        type(network).__name__.endswith("ForSequenceClassification")
        and is_plain_bert(network.config, model.tokenizer, model.max_seq_length)
        and not model.prompts.get(model.default_prompt_name or "")
    )


def compile_cross_encoder(model: CrossEncoder, folder: Path) -> None:
    """Write the graph, weights, settings and tokenizer of a model for which `can_compile` into a folder."""
    network: Any = model[0].auto_model
    encoder, is_bert = f"{network.base_model_prefix}.", network.config.model_type == "bert"
    state = {name.removeprefix(encoder): tensor for name, tensor in network.state_dict().items()}
    layers = ("pooler.dense", "classifier") if is_bert else ("classifier.dense", "classifier.out_proj")
    bert: Bert = bert_of(network.config)
    token_types = "token_type_ids" in model.tokenizer.model_input_names

    def weights(name: str) -> np.ndarray:
        array: np.ndarray = state[name].numpy()
        return array

    with WeightsFile(folder) as file:
        graph = Graph(file)
        build_cross_encoder(graph, bert, weights, *layers, token_types=token_types)
        graph.save(folder / GRAPH)
    settings = CompiledSettings(
        window=int(model.max_seq_length or 0), unknown=model.tokenizer.unk_token_id, token_types=token_types
    )
    (folder / SETTINGS).write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(model.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")


def _compile(model: CrossEncoder, folder: Path) -> None:
    compile_cross_encoder(model, folder)
    _check(folder, model)


def _check(folder: Path, model: CrossEncoder) -> None:
    """Raise a `ModelError` unless the compiled model gives the scores of the original."""
    from torch.nn import Identity

    compiled = CompiledCrossEncoder(folder, "")
    for question in _PROBES:
        scores = compiled.score_texts(question, _PROBES)
        pairs = [(question, text) for text in _PROBES]
        expected = model.predict(pairs, activation_fn=Identity(), show_progress_bar=False)
        if not np.allclose(scores, expected, atol=_TOLERANCE, rtol=_TOLERANCE):
            raise ModelError(f"its scores are off by {np.abs(scores - expected).max():.1e}")
