"""Peak memory of a build of synthetic passages: `make memory`; fewer in test_build_memory.py.

    python -m tests.helpers.build_memory [--passages 1000000] [--shard-size 100000] [--faiss flat] [--vectors float32]

Prints one JSON object. Memory is the process's greatest resident set, mapped files included, less what it had after its
imports: what a build takes beside Python and the model. Vectors are random; every passage has a word of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import pyarrow as pa
import tantivy

from ragx.config import IndexSettings
from ragx.corpus import PassageCounts, unique_passages
from ragx.index import build_index, lexical
from ragx.types import Passage

WORDS = 100
"""In a passage."""
VOCABULARY = [f"w{number}x" for number in range(20_000)]


class RandomEncoder:
    name = "random"
    fingerprint = "r" * 64

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        on_progress(len(passages))
        generator = np.random.default_rng(int(passages[0].id))
        return generator.standard_normal((len(passages), self.dimension), np.float32)

    def encode_question(self, question: str) -> np.ndarray:
        return np.ones(self.dimension, np.float32)


def synthetic(number: int) -> Iterator[Passage]:
    generator = random.Random(0)
    for row in range(number):
        text = f"{row}only " + " ".join(generator.choices(VOCABULARY, k=WORDS - 1))
        yield Passage(str(row), str(row), "", text, 0, 0, len(text), "synthetic")


def peak() -> int:
    """Bytes. Not `getrusage`, which knows the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, default=IndexSettings().shard_size)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--faiss", default="flat")
    parser.add_argument("--vectors", default="float32")
    parser.add_argument("--heap", type=int, default=lexical.HEAP, help="bytes of words in memory")
    given = parser.parse_args()
    lexical.HEAP = given.heap
    settings = IndexSettings(faiss=given.faiss, vectors=given.vectors, shard_size=given.shard_size)
    before = peak()
    memory = Path("/dev/shm") if given.passages < 100_000 else None  # noqa: S108  (a disk would take minutes to sync)
    with TemporaryDirectory(dir=memory if memory and os.access(memory, os.W_OK) else None) as folder:
        counts = PassageCounts()
        passages = unique_passages(synthetic(given.passages), counts)
        manifest = build_index(passages, Path(folder), RandomEncoder(given.dimension), settings, quiet=True)
        assert manifest.counts.passages == given.passages
    print(json.dumps({"passages": given.passages, "before_mb": before / 1e6, "added_mb": (peak() - before) / 1e6}))


if __name__ == "__main__":
    assert all((faiss, tantivy))
    pa.array([""])  # imports pandas, where there is one
    main()
