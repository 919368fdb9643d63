"""Devices, number formats and memory of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.errors import ConfigError, RagxError

if TYPE_CHECKING:
    import torch

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvmap")
"""Devices of the drivers: Nvidia's, AMD's, that of Windows' Linux, and Jetson's."""


def has_gpu() -> bool:
    """Whether torch can use a GPU; on Linux, torch is imported only if there is a driver."""
    if sys.platform == "linux" and not any(Path(path).exists() for path in _DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def default_device() -> str:
    """`cuda` if a GPU is usable, otherwise `cpu`."""
    return "cuda" if has_gpu() else "cpu"


def usable_device(name: str | None) -> str:
    """Check a torch device; None and `auto` mean `default_device`.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    if name in (None, "auto"):
        return default_device()
    if name == "cpu":
        return name
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):  # torch raises either for a missing device
        raise ConfigError(f"device {name!r} is not available on this machine; use cpu") from None
    return name


def default_dtype(device: str) -> torch.dtype:
    """bfloat16 if the device multiplies it natively, otherwise float32 (CPU) or float16 (GPU)."""
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX or Arm BF16), as Linux reports it.

    Not if ATEN_CPU_CAPABILITY, which torch obeys, rules out AVX-512.
    """
    if os.environ.get("ATEN_CPU_CAPABILITY") in ("avx2", "default"):
        return False
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_flags() -> set[str]:
    """The CPU's feature flags; empty if the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":", 1)[1].split()}


def cpu_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_threads() -> int:
    """How many threads to compute with: OMP_NUM_THREADS, as in torch, or one for each core."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdecimal() and int(limit) else cpu_cores()


def free_memory(device: str | torch.device) -> int:
    """Free memory of a device, in bytes."""
    import psutil

    if str(device).startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@contextlib.contextmanager
def report_oom() -> Iterator[None]:
    """Turn a failed allocation, on CPU or GPU, into a `RagxError` that suggests remedies."""
    try:
        yield
    except Exception as error:
        if not _is_failed_allocation(error):
            raise
        raise RagxError("out of memory: reduce k, or use a smaller model or another device") from None


def _is_failed_allocation(error: Exception) -> bool:
    """Whether memory is exhausted, as NumPy, torch (on a GPU, on the CPU) and ONNX Runtime say it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in ("can't allocate memory", "Failed to allocate memory", "bad_alloc"))


def parse_dtype(name: str | torch.dtype | None, device: str) -> torch.dtype:
    """A torch dtype, or its name; None and `auto` mean `default_dtype`.

    Raises:
        ConfigError: the name is unknown.
    """
    import torch

    if isinstance(name, torch.dtype):
        return name
    if name in (None, "auto"):
        return default_dtype(device)
    names = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in names:
        raise ConfigError(f"dtype {name!r} is not one of auto, {', '.join(names)}")
    return names[name]


def return_freed_memory() -> None:
    """Make glibc's malloc return freed blocks of 1 MB or more to the system, for the rest of the process.

    By default it does so only until the first large block is freed: then the threshold grows to that block's size, up
    to 32 MB, and keys and values of answers of all lengths fragment the heap of a server. Smaller blocks come from two
    heaps instead of eight a core, because each keeps the most memory it ever needed. No effect with other C libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        mmap_threshold, arena_max = -3, -8  # malloc.h
        libc.mallopt(mmap_threshold, 1 << 20)  # once set, it stays
        libc.mallopt(arena_max, 2)


def trim_memory() -> None:
    """Make glibc's malloc return all freed memory to the system, once; no effect with other C libraries."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory for reuse, for the rest of the process; no effect with other C libraries.

    By default it returns large blocks to the system, which clears each page before its next use. That takes much of a
    training step's time on a CPU.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(top_pad, 64 << 20)
