"""Which way of attending is cheapest: a roofline of two constants, measured once on a machine and kept on disk."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

Way = Literal["project", "cached", "latent"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Machine:
    """What a device does in one number format."""

    flops: float
    """Floating-point operations of a matrix product, a second."""
    bandwidth: float
    """Bytes read from memory, a second."""

    @classmethod
    def typical(cls, device: str) -> Machine:
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
    """Where the latent way widens int8 in registers; elsewhere it is widened in memory."""


def choose(shape: Shape, on: Machine, *, memory: float, steps: int = 1) -> Way:
    """The way with the least time a step whose memory fits.

    Args:
        shape: of the step.
        on: the machine.
        memory: bytes that may be filled beside Φ for as long as the context lives.
        steps: how many like this one will follow on the same context, the present one included; keys and values that
            are kept are projected once for all of them.
    """
    fitting: list[Way] = [way for way in WAYS if resident(way, shape) <= memory]
    return min(fitting, key=lambda way: seconds(way, shape, on, steps=steps))  # of equals the first: project


def seconds(way: Way, shape: Shape, on: Machine, *, steps: int = 1) -> float:
    """Time of one layer in one step: the longer of computing and reading."""
    keys_values = 2 * shape.tokens * shape.kv_heads * shape.head_dim  # elements
    attend = 4 * shape.queries * shape.tokens * shape.heads
    if way == "latent":
        flops = 4 * shape.queries * shape.heads * shape.encoder_width * (shape.tokens + shape.head_dim)
        return max(flops / on.flops, _phi_bytes(shape, widened=not shape.on_gpu) / on.bandwidth)
    projecting = max(
        2 * keys_values * shape.encoder_width / on.flops,
        (_phi_bytes(shape, widened=True) + keys_values * shape.itemsize) / on.bandwidth,
    )
    attending = max(attend * shape.head_dim / on.flops, keys_values * shape.itemsize / on.bandwidth)
    return attending + (projecting if way == "project" else projecting / steps)


def resident(way: Way, shape: Shape) -> int:
    """Bytes held beside Φ from step to step, in all layers."""
    if way != "cached":
        return 0
    return 2 * shape.tokens * shape.kv_heads * shape.head_dim * shape.itemsize * shape.layers


def _phi_bytes(shape: Shape, *, widened: bool) -> int:
    elements = shape.tokens * shape.encoder_width
    if widened and shape.phi_itemsize < shape.itemsize:
        return elements * (shape.phi_itemsize + 2 * shape.itemsize)  # written once more, and read again
    return elements * shape.phi_itemsize


def machine(device: str, dtype: torch.dtype, path: Path) -> Machine:
    """The constants of this machine from the JSON file at `path`; measured and added where they are missing.

    A damaged file is replaced, and one that cannot be written is done without.
    """
    key = f"{_name(device)}, {str(dtype).removeprefix('torch.')}"
    known = _load(path)
    if key not in known:
        # read again: another process may have added its own meanwhile
        known = _load(path) | {key: measure(device, dtype)}
        _save(path, known)
    return known[key]


def _name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def measure(device: str, dtype: torch.dtype) -> Machine:
    """Time a matrix product and a pass over memory; well under a second."""
    side = 4096 if device.startswith("cuda") else 768
    size = 1 << (30 if device.startswith("cuda") else 26)  # bytes, more than caches hold
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    data = torch.ones(size // 4, dtype=torch.float32, device=device)
    return Machine(
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


def _load(path: Path) -> dict[str, Machine]:
    try:
        entries = json.loads(path.read_bytes())
        known = {key: Machine(float(entry["flops"]), float(entry["bandwidth"])) for key, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return {key: on for key, on in known.items() if all(0 < value < math.inf for value in (on.flops, on.bandwidth))}


def _save(path: Path, known: dict[str, Machine]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({key: asdict(on) for key, on in known.items()}, indent=2))
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # measured again next time
            temporary.unlink(missing_ok=True)
