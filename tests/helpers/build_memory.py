"""Peak memory of a build with synthetic passages, and of an update: `make memory`; test_build_memory.py uses fewer.

    python -m tests.helpers.build_memory [--passages 1000000] [--built 1000000] [--shard-size 100000] [--faiss flat]

Builds an index of the first `--built` passages, then updates it with all `--passages`, ten of them changed. Prints a
JSON object. `added_mb` is the growth of the process's peak resident set, including mapped files, since its imports.
Vectors are random; every passage has a unique word.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import pyarrow as pa
import tantivy

from ragx.config import IndexSettings
from ragx.corpus import PassageCounts, unique_passages
from ragx.index import build_index, lexical_shard, update_index
from ragx.types import Passage

WORDS = 100
"""Words per passage."""
CHANGED = 10
"""Passages that an update changes."""
VOCABULARY = [f"w{number}x" for number in range(20_000)]


class RandomEmbedder:
    name = "random"
    fingerprint = "r" * 64

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.embedded = 0

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        on_progress(len(passages))
        self.embedded += len(passages)
        generator = np.random.default_rng(int(passages[0].id))
        return generator.standard_normal((len(passages), self.dimension), np.float32)

    def encode_question(self, question: str) -> np.ndarray:
        return np.ones(self.dimension, np.float32)


def synthetic(number: int, changed: int = 0) -> Iterator[Passage]:
    """Passages with random words; `changed`: how many of the first have another text."""
    generator = random.Random(0)
    for row in range(number):
        text = f"{row}{'other' if row < changed else 'only'} " + " ".join(generator.choices(VOCABULARY, k=WORDS - 1))
        yield Passage(str(row), str(row), "", text, 0, 0, len(text), "synthetic")


def peak() -> int:
    """Peak memory in bytes; not `getrusage`, which includes the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--built", type=int, help="passages of the first build; default: all")
    parser.add_argument("--shard-size", type=int, default=IndexSettings().shard_size)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--faiss", default="flat")
    parser.add_argument("--vectors", default="float32")
    parser.add_argument("--heap", type=int, default=lexical_shard.HEAP, help="bytes of words in memory")
    options = parser.parse_args()
    lexical_shard.HEAP = options.heap
    settings = IndexSettings(faiss=options.faiss, vectors=options.vectors, shard_size=options.shard_size)
    before = peak()
    memory = Path("/dev/shm") if options.passages < 100_000 else None  # noqa: S108  (syncing a disk would take minutes)
    with TemporaryDirectory(dir=memory if memory and os.access(memory, os.W_OK) else None) as folder:
        counts = PassageCounts()
        built = options.built or options.passages
        passages = unique_passages(synthetic(built), counts)
        embedder = RandomEmbedder(options.dimension)
        manifest = build_index(passages, Path(folder), embedder, settings, quiet=True)
        assert manifest.counts.passages == built
        figures = {"passages": options.passages, "before_mb": before / 1e6, "added_mb": (peak() - before) / 1e6}
        embedder.embedded, start = 0, time.monotonic()
        passages = synthetic(options.passages, changed=min(CHANGED, built))
        manifest = update_index(Path(folder), embedder, add=passages, quiet=True).manifest
        assert manifest.counts.passages == options.passages
        figures |= {
            "update_s": time.monotonic() - start,
            "update_embedded": embedder.embedded,
            "update_added_mb": (peak() - before) / 1e6,
            "mapped_mb": sum(path.stat().st_size for path in Path(folder).glob("gen-0002/*/passages.arrow")) / 1e6,
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    assert all((faiss, tantivy))
    pa.array([""])  # imports pandas, if installed
    main()
