"""Indexes of a million vectors: build rate, memory, latency, recall, overhead over bare FAISS, and updates.

    python -m benchmarks.index [--number 1000000] [--only float16,hnsw] [--folder .cache/bench-index]

Each stage runs in its own process and writes its figures to the folder; finished stages are skipped, so the benchmark
can be interrupted and continued. Vectors are synthetic: unit length, in clusters; texts are short. Prints a Markdown
table and writes `figures.csv` to the folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sample import ROOT
from benchmarks.tables import markdown
from ragx.config import IndexSettings
from ragx.index import Index, build_index, update_index
from ragx.index.dense import open_faiss
from ragx.retrieval import Retriever
from ragx.types import Passage

DIMENSION = 384
CLUSTERS = 4096
SPREAD = 1.0
"""Length of the noise added to a cluster's centre, which has length 1."""
QUESTIONS = 100
K = 10
BLOCK = 10_000
STAGES: dict[str, dict[str, str]] = {
    "float32": {"vectors": "float32"},
    "float16": {},
    "int8": {"vectors": "int8"},
    "binary": {"faiss": "binary"},
    "hnsw": {"faiss": "hnsw"},
    "ivfpq": {"faiss": "ivfpq"},
}
DEFAULT = "float16"
"""The stage with default settings, whose index the update changes."""
COLUMNS = {
    "vectors/s": "{rate:,.0f}",
    "build, s": "{build_s:,.0f}",
    "peak MB": "{peak_mb:,.0f}",
    "on disk, GB": "{disk_gb:.2f}",
    "p50 ms": "{p50_ms:.2f}",
    "p95 ms": "{p95_ms:.2f}",
    "recall@10": "{recall:.3f}",
    "bare FAISS p50 ms": "{bare_p50_ms:.2f}",
    "ragx / bare": "{overhead:.2f}",
}


class RowEmbedder:
    """An embedder that looks up vectors: passage n has row n."""

    name = "rows"
    fingerprint = "r" * 64
    dimension = DIMENSION

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        on_progress(len(passages))
        return np.asarray(self.vectors[[int(passage.id) for passage in passages]])

    def encode_question(self, question: str) -> np.ndarray:
        raise NotImplementedError("questions are vectors")


def clustered(number: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of unit vectors, (n, d) float32; all seeds share the clusters."""
    centres = unit(np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSION), np.float32))
    generator = np.random.default_rng(seed)
    for start in range(0, number, BLOCK):
        size = min(BLOCK, number - start)
        noise = generator.standard_normal((size, DIMENSION), np.float32) * np.float32(SPREAD / np.sqrt(DIMENSION))
        yield unit(centres[generator.integers(0, CLUSTERS, size)] + noise)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def passages(number: int) -> Iterator[Passage]:
    for row in range(number):
        text = f"passage {row} of cluster {row % CLUSTERS} says word {row % 977} and word {row % 65537}"
        yield Passage(str(row), str(row), "", text, 0, 0, len(text), "synthetic")


def peak() -> float:
    """Peak resident memory of the process in MB, including mapped files."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1e3


def prepare(folder: Path, number: int) -> None:
    """Write the vectors, the questions, and the nearest rows to each question."""
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (number, DIMENSION))
    questions = next(clustered(QUESTIONS, seed=2))
    rows: np.ndarray = np.empty((QUESTIONS, 0), np.int64)
    scores: np.ndarray = np.empty((QUESTIONS, 0), np.float32)
    start = 0
    for block in clustered(number, seed=1):
        vectors[start : start + len(block)] = block
        scores = np.concatenate([scores, questions @ block.T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(np.arange(start, start + len(block)), (QUESTIONS, len(block)))], 1)
        best = np.argsort(-scores, axis=1)[:, :K]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
        start += len(block)
    np.savez(folder / "questions.npz", questions=questions, nearest=rows)


def build_and_search(folder: Path, stage: str) -> dict[str, float]:
    """Build an index, then search it one question at a time, alternating ragx and bare FAISS."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    data = np.load(folder / "questions.npz")
    out = folder / stage
    shutil.rmtree(out, ignore_errors=True)
    before = peak()
    start = time.perf_counter()
    build_index(
        passages(len(vectors)), out, RowEmbedder(vectors), IndexSettings.model_validate(STAGES[stage]), quiet=True
    )
    seconds = time.perf_counter() - start
    built = peak()
    index = Index.open(out)
    retriever = Retriever(index)
    bare = bare_search(out, index)
    ours, theirs, correct = [], [], 0
    for question, nearest in zip(data["questions"], data["nearest"], strict=True):
        bare(question)  # so that both find the pages in memory
        begin = time.perf_counter()
        ranking = retriever.nearest(question, K)
        middle = time.perf_counter()
        bare(question)
        theirs.append(time.perf_counter() - middle)
        ours.append(middle - begin)
        correct += len({row for row, _ in ranking} & set(nearest.tolist()))
    disk = sum(entry.size for entry in index.manifest.files.values())
    return {
        "number": len(vectors),
        "rate": len(vectors) / seconds,
        "build_s": seconds,
        "peak_mb": built,
        "before_mb": before,
        "disk_gb": disk / 1e9,
        "p50_ms": float(np.percentile(ours, 50)) * 1e3,
        "p95_ms": float(np.percentile(ours, 95)) * 1e3,
        "recall": correct / data["nearest"].size,
        "bare_p50_ms": float(np.percentile(theirs, 50)) * 1e3,
        "overhead": float(np.percentile(ours, 50) / np.percentile(theirs, 50)),
    }


def bare_search(out: Path, index: Index) -> Callable[[np.ndarray], object]:
    """Search the same files with `faiss.IndexShards`, without ragx."""
    import faiss

    generation = out / (out / "CURRENT").read_text().strip()
    files = sorted(generation.glob("shard-*/faiss.index"))
    opened = [open_faiss(path, index.manifest.settings.search) for path in files]
    shards: Any = faiss.IndexShards(DIMENSION, True, True)  # type: ignore[call-arg]  # threaded, successive ids
    for shard in opened:
        shards.add_shard(shard)

    def search(question: np.ndarray) -> object:
        return shards.search(question[None], K), opened  # `shards` does not keep its members alive

    return search


def update(folder: Path) -> dict[str, float]:
    """Change the text of 1% of the passages, spread over the corpus, in one update of the float16 index."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    changed = [replace(passage, text=f"{passage.text} now") for passage in islice(passages(len(vectors)), 0, None, 100)]
    start = time.perf_counter()
    done = update_index(folder / DEFAULT, RowEmbedder(vectors), add=changed, quiet=True)
    seconds = time.perf_counter() - start
    assert done.added == len(changed)
    return {"number": len(vectors), "changed": len(changed), "update_s": seconds}


def table(figures: dict[str, dict[str, Any]], rate: float) -> str:
    """A Markdown table, and a sentence about the update."""
    rows = [
        (stage, *(text.format(**figures[stage]) for text in COLUMNS.values())) for stage in STAGES if stage in figures
    ]
    lines = [markdown(["", *COLUMNS], rows)]
    if "update" in figures and DEFAULT in figures:
        changed, seconds = figures["update"]["changed"], figures["update"]["update_s"]
        full = figures[DEFAULT]["build_s"]
        embedding, all_embedding = changed / rate, figures[DEFAULT]["number"] / rate
        lines.append(
            f"\nUpdate of {changed:,} passages: {seconds:.1f} s without embedding ({seconds / full:.1%} of the build);"
            f" with embedding at {rate} passages/s, {seconds + embedding:.0f} s of {full + all_embedding:,.0f} s"
            f" ({(seconds + embedding) / (full + all_embedding):.2%})."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--only", default=",".join([*STAGES, "update"]), help="stages, separated by commas")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench-index")
    parser.add_argument("--embedding-rate", type=float, default=82.7, help="passages/s, from docs/benchmarks.md")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder: Path = options.folder / str(options.number)
    folder.mkdir(parents=True, exist_ok=True)
    if options.stage:
        if options.stage == "prepare":
            prepare(folder, options.number)
        else:
            result = update(folder) if options.stage == "update" else build_and_search(folder, options.stage)
            (folder / f"{options.stage}.json").write_text(json.dumps(result, indent=1))
        return
    stages = options.only.split(",")
    if unknown := set(stages) - {*STAGES, "update"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(STAGES)}, update")
    if "update" in stages and DEFAULT not in stages and not (folder / f"{DEFAULT}.json").exists():
        parser.error(f"update requires {DEFAULT}")
    for stage in ["prepare", *stages]:
        done = folder / ("questions.npz" if stage == "prepare" else f"{stage}.json")
        if not done.exists():
            command = [sys.executable, "-m", "benchmarks.index", "--number", str(options.number), "--stage", stage]
            subprocess.run([*command, "--folder", str(options.folder)], check=True)
            if stage in STAGES and stage != DEFAULT:
                shutil.rmtree(folder / stage)
    figures = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    with (folder / "figures.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["stage", *dict.fromkeys(key for values in figures.values() for key in values)])
        writer.writeheader()
        writer.writerows({"stage": stage, **values} for stage, values in figures.items())
    packages = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "numpy", "tantivy"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages};")
    print(f"{options.number:,} × {DIMENSION}, shards of {IndexSettings().shard_size:,}, {QUESTIONS} questions.\n")
    print(table(figures, options.embedding_rate))


if __name__ == "__main__":
    main()
