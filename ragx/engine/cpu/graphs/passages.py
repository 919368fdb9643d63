"""Keys and values of the passages, for the decoder's layers with cross-attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragx.engine.cpu.graphs.layers import Stack, Weights
from ragx.onnx.graph import Graph


def build_passages(graph: Graph, stack: Stack, weights: Weights, cross_layers: Sequence[int]) -> None:
    """Add the projections.

    Inputs:
        phi: (M, E).

    Outputs, for each layer i:
        key.i, value.i: (1, G, M, D) float32, for prompts.
        key8.i, value8.i: the same in int8, for steps, and their scales key_scale.i, value_scale.i: (1, 1, G·D).
    """
    groups, dim = stack.kv_heads, stack.head_dim
    width = weights[f"model.layers.{cross_layers[0]}.cross_attn.k_proj.weight"].shape[1]
    phi = graph.input("phi", np.float32, ["M", width])
    by_head = graph.constant([1, -1, groups, dim], np.int64)
    for layer in cross_layers:
        for kind in ("key", "value"):
            name = f"model.layers.{layer}.cross_attn.{kind[0]}_proj"
            rows = graph.linear(phi, name, weights[f"{name}.weight"])  # (M, G·D)
            largest = graph.op("ReduceMax", graph.op("Abs", rows), graph.constant([0], np.int64), keepdims=1)
            scale = graph.op("Mul", largest, graph.constant([1 / 127], np.float32))
            scale = graph.op("Max", scale, graph.constant([1e-20], np.float32))
            int8 = graph.op("Cast", graph.op("Round", graph.op("Div", rows, scale)), to=graph.type_code(np.int8))
            for value, suffix, dtype in ((rows, "", np.float32), (int8, "8", np.int8)):
                heads = graph.op("Transpose", graph.op("Reshape", value, by_head), perm=[0, 2, 1, 3])
                graph.output(heads, f"{kind}{suffix}.{layer}", dtype, [1, groups, "M", dim])
            row = graph.op("Reshape", scale, graph.constant([1, 1, groups * dim], np.int64))
            graph.output(row, f"{kind}_scale.{layer}", np.float32, [1, 1, groups * dim])
