"""The parts of a Llama-family layer. Shapes are those of design.md; S is the columns of a key/value cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ragx.onnx.graph import Graph

Weights = Mapping[str, np.ndarray]
"""Weights in float32 by state-dict key."""
Linear = Callable[..., str]
"""`Graph.linear`, or `Graph.linear8` with its mode chosen."""


@dataclass(frozen=True)
class Stack:
    """The shape of a Llama-family stack of layers."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    """Of the norms."""
    rotary: Sequence[bool]
    """For each layer, whether its queries and keys carry positions."""


class StackGraph:
    """Adds the layers of a stack to a graph, whose tensors bear their state-dict keys."""

    def __init__(self, graph: Graph, stack: Stack, weights: Weights, prefix: str, linear: Linear) -> None:
        """`prefix` precedes `layers.*` in the state dict, as in `model.`; `linear` multiplies by a matrix."""
        self.graph, self.stack, self.weights, self.prefix = graph, stack, weights, prefix
        self._linear = linear

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return len(self.weights[f"{self.prefix}norm.weight"])

    def linear(self, x: str, name: str) -> str:
        """A linear layer."""
        key = self.prefix + name
        return self._linear(x, key, self.weights[f"{key}.weight"], self.weights.get(f"{key}.bias"))

    def norm(self, x: str, name: str) -> str:
        """RMS norm."""
        key = self.prefix + name
        return self.graph.rms_norm(x, key, self.weights[f"{key}.weight"], self.stack.epsilon)

    def queries_keys_values(self, x: str, layer: int) -> tuple[str, str, str]:
        """(B, N, W) -> queries, keys and values of self-attention: packed as the first, or apart if they have norms."""
        key = f"{self.prefix}layers.{layer}.self_attn"
        parts = [self.weights[f"{key}.{kind}_proj.weight"] for kind in "qkv"]
        bias = None
        if f"{key}.q_proj.bias" in self.weights:
            bias = np.concatenate([self.weights[f"{key}.{kind}_proj.bias"] for kind in "qkv"])
        packed = self._linear(x, f"{key}.qkv", np.concatenate(parts), bias)
        if f"{key}.q_norm.weight" not in self.weights:
            return packed, "", ""
        sizes = self.graph.constant([len(part) for part in parts], np.int64)
        names = [f"{key}.{kind}" for kind in ("query", "key", "value")]
        query, keys, values = self.graph.ops("Split", packed, sizes, names=names, axis=-1)
        name = f"layers.{layer}.self_attn"
        return self._head_norm(query, f"{name}.q_norm"), self._head_norm(keys, f"{name}.k_norm"), values

    def self_attention(self, x: str, layer: int, inputs: Sequence[str], present: Sequence[str], *, causal: bool) -> str:
        """x plus its attention to itself and a cache.

        Args:
            x: (B, N, W).
            layer: number of the layer.
            inputs: the cache's keys and values, last positions, length, cosines and sines; "" for none.
            present: names for the cache's new keys and values.
            causal: whether a token attends to none after it.
        """
        name = f"layers.{layer}"
        query, key, value = self.queries_keys_values(self.norm(x, f"{name}.input_layernorm"), layer)
        attended, *_ = self.graph.ops(
            "GroupQueryAttention",
            *(query, key, value, *inputs),
            names=[f"{name}.attended", *present],
            domain="com.microsoft",
            num_heads=self.stack.heads,
            kv_num_heads=self.stack.kv_heads,
            do_rotary=int(self.stack.rotary[layer]),
            causal=int(causal),
        )
        return self.graph.op("Add", x, self.linear(attended, f"{name}.self_attn.o_proj"))

    def _head_norm(self, x: str, name: str) -> str:
        heads = self.graph.op("Reshape", x, self.graph.constant([0, 0, -1, self.stack.head_dim], np.int64))
        return self.graph.op("Reshape", self.norm(heads, name), self.graph.constant([0, 0, -1], np.int64))

    def feed_forward(self, x: str, layer: int) -> str:
        """down(silu(gate(x)) · up(x))."""
        name = f"layers.{layer}.mlp"
        gate = self.linear(x, f"{name}.gate_proj")
        active = self.graph.op("Mul", gate, self.graph.op("Sigmoid", gate))
        return self.linear(self.graph.op("Mul", active, self.linear(x, f"{name}.up_proj")), f"{name}.down_proj")
