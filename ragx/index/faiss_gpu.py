"""FAISS indexes on GPUs: which shard goes to which GPU, and what stays on the CPU.

The index that a shard was opened with stays, mapped, beside its copy on a GPU, and answers what the GPU cannot.
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

MOST = 2048
"""Candidates that FAISS finds at most in one search on a GPU."""
BUFFERS = 1 << 30
"""Bytes of each GPU that are left to the buffers of FAISS and cuBLAS."""
SCRATCH = 256 << 20
"""Bytes of these that FAISS takes at once; a single question needs few."""
BLOCK_MEMORY = 48 << 10
"""Bytes that the threads of a GPU's block share, and IVF-PQ's tables of a question must fit into."""


@dataclass
class Gpu:
    """One GPU. FAISS's resources on it serve one thread at a time."""

    number: int
    resources: Any
    lock: threading.Lock = field(default_factory=threading.Lock)
    told: bool = False
    """Whether the user knows that it has failed."""


class OnGpu:
    """An index that is searched on a GPU, where the GPU can."""

    def __init__(self, original: faiss.Index, copy: faiss.Index, gpu: Gpu) -> None:
        """Of the `original` on the CPU there is a `copy` on the GPU."""
        self._original, self._gpu = original, gpu
        self._copy: faiss.Index | None = copy

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best candidates for each question, (n, d) float32: scores and rows, (n, k), as `faiss.Index.search`.

        Searches for more than `MOST`, and all once the GPU's memory has run out, are the CPU's.
        """
        if k <= MOST:
            with self._gpu.lock:
                if self._copy is not None:
                    try:
                        return self._copy.search(questions, k)
                    except RuntimeError as error:
                        self._copy = None  # gives its memory back, which the others may do with
                        if not self._gpu.told:
                            notice(f"GPU {self._gpu.number} cannot search a shard, the CPU does: {_reason(error)}")
                        self._gpu.told = True
        return self._original.search(questions, k)


def asked(device: str | None) -> list[int]:
    """The numbers of FAISS's GPUs that a torch device means: `cuda` all, `cuda:1` that one, another none."""
    import faiss

    kind, _, number = (device or "").partition(":")
    there = range(faiss.get_num_gpus() if kind == "cuda" else 0)
    return [each for each in there if not number or each == int(number)]


def place(sizes: Sequence[int], room: Sequence[int]) -> list[int | None]:
    """Which GPU each shard goes to: they take turns, and one without room for a shard is passed over.

    Args:
        sizes: bytes of each shard.
        room: bytes that each GPU has for shards.

    Returns:
        For each shard the position of its GPU in `room`, or None where none has room for it.
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


def copy_to_gpus(indexes: Sequence[faiss.Index], device: str | None) -> list[OnGpu | None]:
    """Copy indexes to the GPUs that `device` means, into half of their free memory; None: it stays on the CPU.

    A notice says how many stay and why: a GPU searches `Flat`, `SQfp16` and IVF over `Flat`, `SQ8` or `PQ`, and none of
    another kind; a shard without room stays whole. Where FAISS has no such GPU all stay, and `ragx doctor` says so.

    Args:
        indexes: one a shard.
        device: a torch device.
    """
    import faiss

    numbers = asked(device)
    room = [max(0, free_memory(f"cuda:{number}") - BUFFERS) // 2 for number in numbers]
    gpus = []
    for number in numbers:
        gpus.append(Gpu(number, faiss.StandardGpuResources()))
        gpus[-1].resources.setTempMemory(SCRATCH)
    copies: list[OnGpu | None] = [None] * len(indexes)
    stay: Counter[str] = Counter()
    for shard, at in enumerate(place([_size(index) for index in indexes], room) if gpus else []):
        if at is None:
            stay["the GPUs have no room for them"] += 1
            continue
        try:
            copies[shard] = OnGpu(indexes[shard], _copy(indexes[shard], gpus[at]), gpus[at])
        except RuntimeError as error:
            stay[_reason(error)] += 1
    for reason, number in stay.items():
        notice(f"{number} of {len(indexes)} shards are searched on the CPU: {reason}")
    return copies


def _size(index: faiss.Index) -> int:
    """Bytes that it takes on a GPU, about: codes and row numbers; 0 for a kind that GPUs do not have."""
    try:
        return int(index.ntotal * (index.sa_code_size() + 8))
    except RuntimeError:
        return 0


def _copy(index: faiss.Index, gpu: Gpu) -> faiss.Index:
    import faiss

    options = faiss.GpuClonerOptions()
    options.use_cuvs = False  # which is another IVF-PQ, with other results
    ivf = faiss.try_extract_index_ivf(index)
    pq = getattr(faiss.downcast_index(ivf), "pq", None) if ivf is not None else None
    options.useFloat16 = pq is not None and 4 * pq.M * pq.ksub > BLOCK_MEMORY
    return faiss.index_cpu_to_gpu(gpu.resources, gpu.number, index, options)


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without where in its source."""
    text = str(error)
    return "the GPU's memory has run out" if "alloc" in text else text.rpartition(": ")[2].strip()
