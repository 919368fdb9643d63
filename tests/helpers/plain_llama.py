"""A Llama decoder written out in float64, one token at a time, as an oracle for caches and positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Kept = Callable[[int], list[int] | None]
"""Takes the number of cached tokens after a token, and gives the places of those that stay; None: all."""


def plain_logits(model: Any, ids: Sequence[int], kept: Kept = lambda length: None) -> Tensor:
    """Logits (N, V) after each token. Keys are cached without positions, which are the tokens' places in the cache."""
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    config = model.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = config.head_dim or config.hidden_size // heads
    frequencies = config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)

    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt((x * x).mean() + config.rms_norm_eps) * state[f"model.{name}.weight"]

    def rotate(x: Tensor, places: Tensor) -> Tensor:
        first, second = x[..., : size // 2], x[..., size // 2 :]
        angles = places[:, None] * frequencies
        return torch.cat(
            [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
        )

    cache: list[tuple[Tensor, Tensor]] = [(torch.empty(groups, 0, size).double(),) * 2] * config.num_hidden_layers
    logits = []
    for token in ids:
        x = state["model.embed_tokens.weight"][token]
        for number in range(config.num_hidden_layers):
            layer = f"model.layers.{number}.self_attn"
            y = norm(x, f"layers.{number}.input_layernorm")
            query, key, value = ((state[f"{layer}.{name}_proj.weight"] @ y).view(-1, 1, size) for name in "qkv")
            keys, values = (torch.cat(pair, dim=1) for pair in zip(cache[number], (key, value), strict=True))
            cache[number] = keys, values
            places = torch.arange(keys.shape[1]).double()
            turned = rotate(keys, places).repeat_interleave(heads // groups, dim=0)
            weights = (rotate(query, places[-1:]) @ turned.mT / math.sqrt(size)).softmax(dim=-1)
            attended = weights @ values.repeat_interleave(heads // groups, dim=0)
            x = x + state[f"{layer}.o_proj.weight"] @ attended.flatten()
            y = norm(x, f"layers.{number}.post_attention_layernorm")
            mlp = f"model.layers.{number}.mlp"
            gate, up = (state[f"{mlp}.{name}_proj.weight"] @ y for name in ("gate", "up"))
            x = x + state[f"{mlp}.down_proj.weight"] @ (torch.nn.functional.silu(gate) * up)
        logits.append(state["lm_head.weight"] @ norm(x, "norm"))
        if (places_kept := kept(cache[0][0].shape[1])) is not None:
            cache = [(keys[:, places_kept], values[:, places_kept]) for keys, values in cache]
    return torch.stack(logits)
