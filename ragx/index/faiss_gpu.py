"""FAISS indexes on GPUs, and which shards go where.

A shard with a copy on a GPU keeps its memory-mapped index, which takes over when the GPU cannot search.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.util.device import free_memory
from ragx.util.terminal import notice

if TYPE_CHECKING:
    import faiss

MAX_CANDIDATES = 2048
"""Maximum number of candidates in one FAISS search on a GPU."""
BUFFER_BYTES = 1 << 30
"""Memory of each GPU reserved for buffers of FAISS and cuBLAS."""
SCRATCH_BYTES = 256 << 20
"""The part of it that FAISS allocates at once; a single question needs little."""
BLOCK_BYTES = 48 << 10
"""Memory shared by the threads of a GPU block, which must hold the IVF-PQ tables of a question."""


@dataclass
class Gpu:
    """One GPU. FAISS's resources on it serve one thread at a time."""

    number: int
    resources: Any
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_reported: bool = False
    """Whether its failure has been reported."""


class GpuIndex:
    """An index searched on a GPU, or on the CPU if the GPU cannot."""

    def __init__(self, original: faiss.Index, copy: faiss.Index, gpu: Gpu) -> None:
        """Use `original` on the CPU and its `copy` on the GPU."""
        self._original, self._gpu = original, gpu
        self._copy: faiss.Index | None = copy

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best candidates for each question, (n, d) float32: scores and rows, (n, k), as `faiss.Index.search`.

        The CPU searches for more than `MAX_CANDIDATES`, and for all after the GPU has run out of memory.
        """
        if k <= MAX_CANDIDATES:
            with self._gpu.lock:
                if self._copy is not None:
                    try:
                        return self._copy.search(questions, k)
                    except RuntimeError as error:
                        self._copy = None  # frees its memory for the other shards
                        if not self._gpu.is_reported:
                            notice(f"GPU {self._gpu.number} cannot search a shard, using the CPU: {_reason(error)}")
                        self._gpu.is_reported = True
        return self._original.search(questions, k)


def gpu_numbers(device: str | None) -> list[int]:
    """FAISS's numbers of the GPUs of a torch device: `cuda` means all, `cuda:1` that one, other devices none."""
    import faiss

    kind, _, number = (device or "").partition(":")
    gpus = range(faiss.get_num_gpus() if kind == "cuda" else 0)
    return [gpu for gpu in gpus if not number or gpu == int(number)]


def place(sizes: Sequence[int], room: Sequence[int]) -> list[int | None]:
    """Assign shards to GPUs in turn, skipping GPUs without room.

    Args:
        sizes: bytes of each shard.
        room: bytes available on each GPU.

    Returns:
        For each shard the position of its GPU in `room`, or None if no GPU has room.
    """
    left = list(room)
    placed: list[int | None] = []
    turn = 0
    for size in sizes:
        order = [(turn + step) % len(left) for step in range(len(left))]
        chosen = next((gpu for gpu in order if size <= left[gpu]), None)
        placed.append(chosen)
        if chosen is not None:
            left[chosen] -= size
            turn = (chosen + 1) % len(left)
    return placed


def copy_to_gpus(indexes: Sequence[faiss.Index], device: str | None) -> list[GpuIndex | None]:
    """Copy indexes to the GPUs of a torch device, using half of their free memory; None for those that stay on the CPU.

    GPUs search `Flat`, `SQfp16`, and IVF over `Flat`, `SQ8` or `PQ`. A notice says how many shards stay on the CPU and
    why. If FAISS has no such GPU, all stay without a notice; `ragx doctor` reports that.
    """
    import faiss

    numbers = gpu_numbers(device)
    room = [max(0, free_memory(f"cuda:{number}") - BUFFER_BYTES) // 2 for number in numbers]
    gpus = []
    for number in numbers:
        gpus.append(Gpu(number, faiss.StandardGpuResources()))
        gpus[-1].resources.setTempMemory(SCRATCH_BYTES)
    copies: list[GpuIndex | None] = [None] * len(indexes)
    reasons: Counter[str] = Counter()
    for shard, gpu in enumerate(place([_size(index) for index in indexes], room) if gpus else []):
        if gpu is None:
            reasons["the GPUs have no room for them"] += 1
            continue
        try:
            copies[shard] = GpuIndex(indexes[shard], _copy(indexes[shard], gpus[gpu]), gpus[gpu])
        except RuntimeError as error:
            reasons[_reason(error)] += 1
    for reason, number in reasons.items():
        notice(f"{number} of {len(indexes)} shards are searched on the CPU: {reason}")
    return copies


def _size(index: faiss.Index) -> int:
    """Approximate size on a GPU in bytes (codes and row numbers); 0 for a kind that GPUs do not support."""
    try:
        return int(index.ntotal * (index.sa_code_size() + 8))
    except RuntimeError:
        return 0


def _copy(index: faiss.Index, gpu: Gpu) -> faiss.Index:
    import faiss

    options = faiss.GpuClonerOptions()
    options.use_cuvs = False  # its IVF-PQ gives other results
    ivf = faiss.try_extract_index_ivf(index)
    pq = getattr(faiss.downcast_index(ivf), "pq", None) if ivf is not None else None
    options.useFloat16 = pq is not None and 4 * pq.M * pq.ksub > BLOCK_BYTES
    return faiss.index_cpu_to_gpu(gpu.resources, gpu.number, index, options)


def _reason(error: RuntimeError) -> str:
    """FAISS's message without its source location."""
    text = str(error)
    return "the GPU has run out of memory" if "alloc" in text else text.rpartition(": ")[2].strip()
