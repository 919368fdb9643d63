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
        query, key, value = layers.queries_keys_values(layers.norm(x, f"{name}.input_layernorm"), layer)
        attended, *_ = graph.ops(
            "GroupQueryAttention",
            *(query, key, value, "", "", last, total, cos, sin),
            names=[f"{name}.attended", f"{name}.keys", f"{name}.values"],
            domain="com.microsoft",
            num_heads=stack.heads,
            kv_num_heads=stack.kv_heads,
            do_rotary=int(stack.rotary[layer]),
            causal=0,
        )
        x = graph.op("Add", x, layers.linear(attended, f"{name}.self_attn.o_proj"))
        x = graph.op("Add", x, layers.feed_forward(layers.norm(x, f"{name}.post_attention_layernorm"), layer))
    graph.output(layers.norm(x, "norm"), "phi", np.float32, ["K", "L", layers.width])
