"""The ONNX graphs of BERT-like encoders: token ids to one vector a text, or to one score a pair of texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ragx.onnx.graph import Graph

PoolingMode = Literal["mean", "cls"]
Weights = Callable[[str], np.ndarray]
"""A tensor of the model by its name."""


@dataclass(frozen=True)
class Bert:
    """The shape of a BERT-like encoder."""

    layers: int
    heads: int
    epsilon: float
    """Of the norms."""
    first_position: int
    """The row of the position table that the first token gets."""


def build_bert(graph: Graph, bert: Bert, weights: Weights, pooling: PoolingMode) -> None:
    """The encoder and its pooling, for B texts of at most L tokens, padded on the right.

    Inputs:
        ids: (B, L) int32.
        lengths: (B,) int32, tokens of each text.
        shares: (B, 1, L) float32, 1/length for a text's tokens and 0 for its padding. Mean pooling only.

    Outputs:
        vectors: (B, W) float32, not normalised.
    """
    x = _encoder(graph, bert, weights, token_types=False)
    width = weights("embeddings.LayerNorm.weight").shape[0]
    if pooling == "cls":
        pooled = graph.op("Gather", x, graph.constant(0, np.int64), axis=1)
    else:
        shares = graph.input("shares", np.float32, ["B", 1, "L"])
        pooled = graph.op("Squeeze", graph.op("MatMul", shares, x), graph.constant([1], np.int64))
    graph.output(pooled, "vectors", np.float32, ["B", width])


def build_cross_encoder(
    graph: Graph, bert: Bert, weights: Weights, hidden: str, scorer: str, *, token_types: bool
) -> None:
    """The encoder and the two layers that score a pair from its first token; `hidden` and `scorer` name the layers.

    Inputs:
        ids, lengths: as `build_bert`.
        types: (B, L) int32, 0 for the first text of a pair and 1 for the second. With `token_types` only.

    Outputs:
        scores: (B, 1) float32.
    """
    x = _encoder(graph, bert, weights, token_types=token_types)
    x = graph.op("Gather", x, graph.constant(0, np.int64), axis=1)
    x = graph.op("Tanh", graph.linear(x, hidden, weights(f"{hidden}.weight"), weights(f"{hidden}.bias")))
    x = graph.linear(x, scorer, weights(f"{scorer}.weight"), weights(f"{scorer}.bias"))
    graph.output(x, "scores", np.float32, ["B", 1])


def _encoder(graph: Graph, bert: Bert, weights: Weights, *, token_types: bool) -> str:
    """The last hidden states, (B, L, W); without `token_types` all tokens are of type 0."""

    def weight(name: str) -> str:
        return graph.weight(name, weights(name))

    def matmul(x: str, name: str) -> str:
        return graph.op("MatMul", x, graph.weight(f"{name}.transposed", weights(f"{name}.weight").T))

    def norm(x: str, name: str) -> str:
        scale, shift = weight(f"{name}.weight"), weight(f"{name}.bias")
        return graph.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=bert.epsilon)

    def add_and_norm(x: str, name: str, skip: str) -> str:
        # SkipLayerNormalization takes six times as long as these three operators
        added = graph.op("Add", graph.op("Add", matmul(x, f"{name}.dense"), weight(f"{name}.dense.bias")), skip)
        return norm(added, f"{name}.LayerNorm")

    ids, lengths = graph.input("ids", np.int32, ["B", "L"]), graph.input("lengths", np.int32, ["B"])
    positions = weights("embeddings.position_embeddings.weight")[bert.first_position :]
    type_table = weights("embeddings.token_type_embeddings.weight")
    if token_types:
        types, type_weights = graph.input("types", np.int32, ["B", "L"]), graph.weight("types.weight", type_table)
    else:
        types, type_weights = "", ""
        positions = positions + type_table[0]
    x = graph.ops(
        "EmbedLayerNormalization", ids, types, weight("embeddings.word_embeddings.weight"),
        graph.weight("positions", positions), type_weights,
        weight("embeddings.LayerNorm.weight"), weight("embeddings.LayerNorm.bias"),
        names=["embedded", "no_mask"], domain="com.microsoft", epsilon=bert.epsilon,
    )[0]  # fmt: skip
    for layer in range(bert.layers):
        name = f"encoder.layer.{layer}"
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        packed = graph.weight(f"{name}.packed", np.concatenate([weights(f"{part}.weight") for part in parts]).T)
        bias = graph.weight(f"{name}.packed.bias", np.concatenate([weights(f"{part}.bias") for part in parts]))
        attended = graph.op("Attention", x, packed, bias, lengths, domain="com.microsoft", num_heads=bert.heads)
        x = add_and_norm(attended, f"{name}.attention.output", x)
        inner = matmul(x, f"{name}.intermediate.dense")
        inner = graph.op("BiasGelu", inner, weight(f"{name}.intermediate.dense.bias"), domain="com.microsoft")
        x = add_and_norm(inner, f"{name}.output", x)
    return x
