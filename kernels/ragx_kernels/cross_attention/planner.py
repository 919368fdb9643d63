"""Which attention strategy is cheapest: a roofline of two constants of the device, measured once a process."""

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
    """What a device does in one number format."""

    flops: float
    """Floating-point operations of a matrix product, a second."""
    bandwidth: float
    """Bytes read from memory, a second."""

    @classmethod
    def typical(cls, device: str) -> DeviceProfile:
        """Where nothing was measured: a data-centre GPU, or a few cores."""
        return cls(flops=3e14, bandwidth=2e12) if device == "cuda" else cls(flops=3e11, bandwidth=2e10)


@dataclass(frozen=True)
class Shape:
    """One step of a decoder whose layers attend to passages."""

    queries: int
    """n: decoder tokens of a question in this step, 1 in decoding."""
    tokens: int
    """M: context tokens, summed over the questions of the batch."""
    heads: int
    kv_heads: int
    head_dim: int
    encoder_width: int
    layers: int
    """Layers with cross-attention."""
    itemsize: int = 2
    """Bytes of an element of queries, keys and values."""
    phi_itemsize: int = 2
    """Bytes of an element of Φ as it is kept: 1 for int8."""
    on_gpu: bool = False
    """Where the latent strategy widens int8 in registers; elsewhere it is widened in memory."""


def choose(shape: Shape, on: DeviceProfile, *, memory: float, steps: int = 1) -> AttentionStrategy:
    """The strategy with the least time a step whose memory fits.

    Args:
        shape: of the step.
        on: the machine.
        memory: bytes that may be filled beside Φ for as long as the context lives.
        steps: how many like this one will follow on the same context, the present one included; keys and values that
            are kept are projected once for all of them.
    """
    fitting: list[AttentionStrategy] = [strategy for strategy in STRATEGIES if resident(strategy, shape) <= memory]
    return min(fitting, key=lambda strategy: seconds(strategy, shape, on, steps=steps))  # of equals the first: project


def seconds(strategy: AttentionStrategy, shape: Shape, on: DeviceProfile, *, steps: int = 1) -> float:
    """Time of one layer in one step: the longer of computing and reading."""
    keys_values = 2 * shape.tokens * shape.kv_heads * shape.head_dim  # elements
    attend = 4 * shape.queries * shape.tokens * shape.heads
    if strategy == "latent":
        flops = 4 * shape.queries * shape.heads * shape.encoder_width * (shape.tokens + shape.head_dim)
        return max(flops / on.flops, _phi_bytes(shape, widened=not shape.on_gpu) / on.bandwidth)
    projecting = max(
        2 * keys_values * shape.encoder_width / on.flops,
        (_phi_bytes(shape, widened=True) + keys_values * shape.itemsize) / on.bandwidth,
    )
    attending = max(attend * shape.head_dim / on.flops, keys_values * shape.itemsize / on.bandwidth)
    return attending + (projecting if strategy == "project" else projecting / steps)


def resident(strategy: AttentionStrategy, shape: Shape) -> int:
    """Bytes held beside Φ from step to step, in all layers."""
    if strategy != "cached":
        return 0
    return 2 * shape.tokens * shape.kv_heads * shape.head_dim * shape.itemsize * shape.layers


def _phi_bytes(shape: Shape, *, widened: bool) -> int:
    elements = shape.tokens * shape.encoder_width
    if widened and shape.phi_itemsize < shape.itemsize:
        return elements * (shape.phi_itemsize + 2 * shape.itemsize)  # written once more, and read again
    return elements * shape.phi_itemsize


@cache
def device_profile(device: str, dtype: torch.dtype) -> DeviceProfile:
    """The constants of a device, measured once a process: figures kept longer may be those of a busy moment."""
    return measure(device, dtype)


def measure(device: str, dtype: torch.dtype) -> DeviceProfile:
    """Time a matrix product and a pass over memory; well under a second."""
    side = 4096 if device.startswith("cuda") else 768
    size = 1 << (30 if device.startswith("cuda") else 26)  # bytes, more than caches hold
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
