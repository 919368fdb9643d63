"""The decoder with its cross-attention, for prompts and for steps of one token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ragx.engine.cpu.graphs.layers import Stack, StackGraph, Weights
from ragx.onnx.graph import Graph

_END = 2**62


def build_decoder(
    graph: Graph,
    stack: Stack,
    weights: Weights,
    rotary: tuple[np.ndarray, np.ndarray],
    cross_layers: Sequence[int],
    *,
    prompt: bool,
) -> None:
    """Add the decoder, for the tokens of one prompt (B = 1) or, without `prompt`, for one token of each row (N = 1).

    Inputs:
        embeddings: (B, N, W).
        last: (B,) int32, position of each row's last token.
        total: () int32, tokens of the longest row.
        key.i, value.i: (B, G, S, D), cache of layer i. The outputs present_key.i and present_value.i must be the same
            memory.
        cross_key.i, cross_value.i: (B, G, M, D), passages: float32 in a prompt, int8 in a step.
        query_factor.i, output_factor.i: (B, 1, H·D), for the scale of the scores, the gain, and the int8 scales.
        attend_from: (1,) int64, in a prompt the first of its tokens that attends to passages.
        cross_last, cross_total: in a step, as `last` and `total`.
        new_key.i, new_value.i: (B, 1, G·D), in a step the last token of the passages, which the operator writes again
            to present_cross_key.i and present_cross_value.i, the same memory.

    Outputs:
        logits: (B, V), of each row's last token.
        query.i: (B, H·D), the last token's scaled query to the passages.
    """
    linear = partial(graph.linear8, quantize_input=not prompt)
    layers = StackGraph(graph, stack, weights, "model.", linear)
    x = graph.input("embeddings", np.float32, ["B", "N", layers.width])
    last, total = graph.input("last", np.int32, ["B"]), graph.input("total", np.int32, [])
    cos, sin = graph.weight("model.cos", rotary[0]), graph.weight("model.sin", rotary[1])
    cross = (_PromptCrossAttention if prompt else _StepCrossAttention)(layers) if cross_layers else None
    for layer in range(stack.layers):
        name = f"layers.{layer}"
        shape: list[str | int] = ["B", stack.kv_heads, "S", stack.head_dim]
        caches = [graph.input(f"{kind}.{layer}", np.float32, shape) for kind in ("key", "value")]
        present = [f"present_key.{layer}", f"present_value.{layer}"]
        x = layers.self_attention(x, layer, [*caches, last, total, cos, sin], present, causal=True)
        for cache in present:
            graph.output(cache, cache, np.float32, shape)
        if cross is not None and layer in cross_layers:
            x = cross.add(x, layer)
        x = graph.op("Add", x, layers.feed_forward(layers.norm(x, f"{name}.post_attention_layernorm"), layer))
    final = layers.norm(graph.op("Gather", x, graph.constant([-1], np.int64), axis=1), "norm")
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    logits = graph.linear8(final, "lm_head", head, quantize_input=True)
    graph.output(graph.op("Squeeze", logits, graph.constant([1], np.int64)), "logits", np.float32, ["B", len(head)])


class _PromptCrossAttention:
    """Attention to the passages from the prompt's tokens, or the last of them."""

    def __init__(self, layers: StackGraph) -> None:
        self.layers, self.graph = layers, layers.graph
        self.start = self.graph.input("attend_from", np.int64, [1])

    def add(self, x: str, layer: int) -> str:
        """x plus the attention's output, (1, N, W)."""
        graph = self.graph
        zero, one, end = (graph.constant([number], np.int64) for number in (0, 1, _END))
        attending = graph.op("Slice", x, self.start, end, one)
        query = _query(self.layers, attending, layer)
        output = _add_output(
            self.layers, attending, self._attend(query, *_passages(self.layers, layer, np.float32)), layer
        )
        return graph.op("Concat", graph.op("Slice", x, zero, self.start, one), output, axis=1)

    def _attend(self, query: str, key: str, value: str) -> str:
        """(1, N, H·D) -> (1, N, H·D), where the heads of a group are rows of one head.

        One pass over keys and values then serves all the heads of a group.
        """
        graph, stack = self.graph, self.layers.stack
        groups, dim, rows = stack.kv_heads, stack.head_dim, stack.heads // stack.kv_heads
        split = graph.op("Reshape", query, graph.constant([0, 0, groups, rows, dim], np.int64))
        as_rows = graph.op("Transpose", split, perm=[0, 1, 3, 2, 4])  # (1, N, H/G, G, D)
        attended = graph.op(
            "MultiHeadAttention",
            *(graph.op("Reshape", as_rows, graph.constant([0, -1, groups * dim], np.int64)), key, value),
            domain="com.microsoft",
            num_heads=groups,
            scale=1.0,
        )
        split = graph.op("Reshape", attended, graph.constant([1, -1, rows, groups, dim], np.int64))
        heads = graph.op("Transpose", split, perm=[0, 1, 3, 2, 4])  # (1, N, G, H/G, D)
        return graph.op("Reshape", heads, graph.constant([0, 0, stack.heads * dim], np.int64))


class _StepCrossAttention:
    """Attention to the int8 passages from one token of each row."""

    def __init__(self, layers: StackGraph) -> None:
        self.layers, self.graph = layers, layers.graph
        self.last = self.graph.input("cross_last", np.int32, ["B"])
        self.total = self.graph.input("cross_total", np.int32, [])

    def add(self, x: str, layer: int) -> str:
        """x plus the attention's output, (B, 1, W)."""
        graph, stack = self.graph, self.layers.stack
        query = _query(self.layers, x, layer)
        row: list[str | int] = ["B", 1, stack.kv_heads * stack.head_dim]
        new = [graph.input(f"new_{kind}.{layer}", np.float32, row) for kind in ("key", "value")]
        one = graph.constant([1.0], np.float32)  # scales are part of the factors
        attended, *present = graph.ops(
            "GroupQueryAttention",
            *(
                query,
                *new,
                *_passages(self.layers, layer, np.int8),
                self.last,
                self.total,
                "",
                "",
                "",
                "",
                "",
                one,
                one,
            ),
            names=[f"cross_attended.{layer}", f"present_cross_key.{layer}", f"present_cross_value.{layer}"],
            domain="com.microsoft",
            num_heads=stack.heads,
            kv_num_heads=stack.kv_heads,
            causal=0,
            scale=1.0,
            k_quant_type="PER_TENSOR",
            v_quant_type="PER_TENSOR",
            kv_cache_bit_width=8,
        )
        for cache in present:
            graph.output(cache, cache, np.int8, ["B", stack.kv_heads, "M", stack.head_dim])
        return _add_output(self.layers, x, attended, layer)


def _query(layers: StackGraph, x: str, layer: int) -> str:
    """The scaled queries (B, N, H·D); the last token's is an output."""
    graph, width = layers.graph, layers.stack.heads * layers.stack.head_dim
    name = f"layers.{layer}.cross_attn"
    query = layers.linear(layers.norm(x, f"{name}.layernorm"), f"{name}.q_proj")
    query = graph.op("Mul", query, graph.input(f"query_factor.{layer}", np.float32, ["B", 1, width]))
    last = graph.op("Gather", query, graph.constant(-1, np.int64), axis=1)
    graph.output(last, f"query.{layer}", np.float32, ["B", width])
    return query


def _passages(layers: StackGraph, layer: int, dtype: type) -> list[str]:
    shape: list[str | int] = ["B", layers.stack.kv_heads, "M", layers.stack.head_dim]
    return [layers.graph.input(f"cross_{kind}.{layer}", dtype, shape) for kind in ("key", "value")]


def _add_output(layers: StackGraph, x: str, attended: str, layer: int) -> str:
    graph, width = layers.graph, layers.stack.heads * layers.stack.head_dim
    factor = graph.input(f"output_factor.{layer}", np.float32, ["B", 1, width])
    return graph.op("Add", x, layers.linear(graph.op("Mul", attended, factor), f"layers.{layer}.cross_attn.o_proj"))
