"""Which attention strategy is cheapest: a roofline model from two constants of the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch

AttentionStrategy = Literal["project", "cached", "latent"]
STRATEGIES: tuple[AttentionStrategy, ...] = get_args(AttentionStrategy)


@dataclass(frozen=True)
class DeviceProfile:
    """Speed of a device in one number format."""

    flops: float
    """Floating-point operations per second of a matrix product."""
    bandwidth: float
    """Bytes read from memory per second."""

    @classmethod
    def typical(cls, device: str) -> DeviceProfile:
        """Unmeasured constants of a data-centre GPU, or of a CPU with a few cores."""
        return cls(flops=3e14, bandwidth=2e12) if device == "cuda" else cls(flops=3e11, bandwidth=2e10)


@dataclass(frozen=True)
class Shape:
    """One step of a decoder whose layers attend to passages."""

    queries: int
    """N: decoder tokens per question in this step; 1 when decoding."""
    tokens: int
    """M: context tokens, summed over the batch."""
    heads: int
    kv_heads: int
    head_dim: int
    encoder_width: int
    layers: int
    """Layers with cross-attention."""
    itemsize: int = 2
    """Bytes of an element of queries, keys and values."""
    phi_itemsize: int = 2
    """Bytes of an element of stored Φ: 1 for int8."""
    on_gpu: bool = False
    """On a GPU the latent strategy widens int8 in registers; on a CPU, in memory."""


def choose(shape: Shape, profile: DeviceProfile, *, memory: float, steps: int = 1) -> AttentionStrategy:
    """The fastest strategy that fits into memory.

    Args:
        shape: one step.
        profile: the device.
        memory: bytes available for as long as the context lives, besides Φ.
        steps: steps like this one on the same context; `cached` projects keys and values once for all of them.
    """
    fitting: list[AttentionStrategy] = [strategy for strategy in STRATEGIES if cache_bytes(strategy, shape) <= memory]
    # ties go to the first, `project`
    return min(fitting, key=lambda strategy: seconds(strategy, shape, profile, steps=steps))


def seconds(strategy: AttentionStrategy, shape: Shape, profile: DeviceProfile, *, steps: int = 1) -> float:
    """Time of one layer in one step: the longer of computing and reading."""
    keys_values = 2 * shape.tokens * shape.kv_heads * shape.head_dim  # elements
    attend = 4 * shape.queries * shape.tokens * shape.heads
    if strategy == "latent":
        flops = 4 * shape.queries * shape.heads * shape.encoder_width * (shape.tokens + shape.head_dim)
        return max(flops / profile.flops, _phi_bytes(shape, widened=not shape.on_gpu) / profile.bandwidth)
    projecting = max(
        2 * keys_values * shape.encoder_width / profile.flops,
        (_phi_bytes(shape, widened=True) + keys_values * shape.itemsize) / profile.bandwidth,
    )
    attending = max(attend * shape.head_dim / profile.flops, keys_values * shape.itemsize / profile.bandwidth)
    return attending + (projecting if strategy == "project" else projecting / steps)


def cache_bytes(strategy: AttentionStrategy, shape: Shape) -> int:
    """Bytes kept from step to step in all layers, besides Φ."""
    if strategy != "cached":
        return 0
    return 2 * shape.tokens * shape.kv_heads * shape.head_dim * shape.itemsize * shape.layers


def _phi_bytes(shape: Shape, *, widened: bool) -> int:
    elements = shape.tokens * shape.encoder_width
    if widened and shape.phi_itemsize < shape.itemsize:
        return elements * (shape.phi_itemsize + 2 * shape.itemsize)  # plus writing and reading the widened copy
    return elements * shape.phi_itemsize


@cache
def device_profile(device: str, dtype: torch.dtype) -> DeviceProfile:
    """The constants of a device, measured once per process: on disk, figures from a busy moment would persist."""
    return measure(device, dtype)


def measure(device: str, dtype: torch.dtype) -> DeviceProfile:
    """Time a matrix product and a pass over memory, in well under a second."""
    side = 4096 if device.startswith("cuda") else 768
    size = 1 << (30 if device.startswith("cuda") else 26)  # bytes; exceeds the caches
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    data = torch.ones(size // 4, dtype=torch.float32, device=device)
    return DeviceProfile(
        flops=2 * side**3 / _fastest(lambda: left @ right, device),
        bandwidth=size / _fastest(data.sum, device),
    )


def _fastest(run: Callable[[], object], device: str) -> float:
    times = []
    for _ in range(6):  # the first ones warm up
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)
