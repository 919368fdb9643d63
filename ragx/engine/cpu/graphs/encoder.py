"""The passage encoder, in float32: int8 would change encodings too much (their cosine falls to 0.74)."""

from __future__ import annotations

import numpy as np

from ragx.engine.cpu.graphs.layers import Stack, StackGraph, Weights
from ragx.onnx.graph import Graph


def build_encoder(graph: Graph, stack: Stack, weights: Weights, rotary: tuple[np.ndarray, np.ndarray]) -> None:
    """Add the encoder.

    Inputs:
        embeddings: (K, L, E), shorter passages padded at the end.
        last: (K,) int32, position of each passage's last token.
        total: () int32, L.

    Outputs:
        phi: (K, L, E); the rows of padding are arbitrary.
    """
    layers = StackGraph(graph, stack, weights, "encoder.", graph.linear)
    x = graph.input("embeddings", np.float32, ["K", "L", layers.width])
    last, total = graph.input("last", np.int32, ["K"]), graph.input("total", np.int32, [])
    cos, sin = graph.weight("encoder.cos", rotary[0]), graph.weight("encoder.sin", rotary[1])
    for layer in range(stack.layers):
        name = f"layers.{layer}"
        inputs = ["", "", last, total, cos, sin]
        x = layers.self_attention(x, layer, inputs, [f"{name}.keys", f"{name}.values"], causal=False)
        x = graph.op("Add", x, layers.feed_forward(layers.norm(x, f"{name}.post_attention_layernorm"), layer))
    graph.output(layers.norm(x, "norm"), "phi", np.float32, ["K", "L", layers.width])
