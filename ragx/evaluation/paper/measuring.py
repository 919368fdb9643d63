"""Seconds and peak memory of a piece of work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ragx.evaluation.results import Values

PROCESS = Path("/proc/self")


def measured(work: Callable[[], Values]) -> Values:
    """What `work` returns, with its `seconds` and `peak_bytes`: of the GPUs, or else of the whole process on Linux."""
    _reset_peak()
    _wait()
    start = time.perf_counter()
    values = work()
    _wait()
    return values | {"seconds": time.perf_counter() - start, "peak_bytes": _peak()}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        (PROCESS / "clear_refs").write_text("5")


def _peak() -> int:
    if torch.cuda.is_available():
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    if sys.platform != "linux":
        return 0
    status = (PROCESS / "status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
