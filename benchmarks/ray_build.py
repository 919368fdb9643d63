"""Passages per second: a local Ray cluster of two workers against the local engine, over the same passages.

    python -m benchmarks.ray_build [--passages 4000]

Rates do not include starting Ray and loading models: each engine builds a small index first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import sample
from benchmarks.tables import markdown
from ragx.config import IndexSettings
from ragx.distributed import ModelSource, cluster, make_shards
from ragx.index import build_index, read_manifest
from ragx.index.build import MakeShards
from ragx.retrieval import open_embedder

MODEL = "all-minilm-l6-v2"
WARM = 600
WORKERS = 2


def main() -> None:
    """Print a Markdown table, and which files are equal in both indexes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_build", description=__doc__)
    parser.add_argument("--passages", type=int, default=4000)
    corpus = sample.passages()[: parser.parse_args().passages]
    embedder = open_embedder(MODEL, "cpu", None)
    start = time.perf_counter()
    with cluster(cpus=WORKERS), tempfile.TemporaryDirectory() as work:
        started = time.perf_counter() - start
        source = ModelSource(open_embedder, (MODEL, "cpu", None))
        engines: dict[str, MakeShards | None] = {
            "local": None,
            f"ray, {WORKERS} workers": partial(make_shards, source=source),
        }
        seconds = {}
        for name, engine in engines.items():
            for folder, passages in ((f"{name} warm", corpus[:WARM]), (name, corpus)):
                begin = time.perf_counter()
                build_index(passages, Path(work) / folder, embedder, IndexSettings(), quiet=True, make_shards=engine)
                seconds[name] = time.perf_counter() - begin
        files = [read_manifest(Path(work) / name).files for name in engines]
    rates = {name: len(corpus) / spent for name, spent in seconds.items()}
    first = next(iter(rates.values()))
    print(f"{len(corpus)} passages of 100 words; Ray started in {started:.1f} s.\n")
    print(
        markdown(("engine", "passages/s", "of local"), [(n, f"{r:.1f}", f"{r / first:.2f}") for n, r in rates.items()])
    )
    equal = [name for name in files[0] if files[0][name] == files[1][name]]
    print(f"\n{len(equal)} of {len(files[0])} files are equal byte for byte: {', '.join(sorted(equal))}")


if __name__ == "__main__":
    main()
