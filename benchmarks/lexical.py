"""The lexical index compared with tantivy's bare binding: build, size, update of 1 %, search.

    python -m benchmarks.lexical [--passages 100000] [--questions 200] [--shards 1] [--threads 1] [--alone]

Prints one JSON object; `--alone` leaves out the comparison. Shards are built one after another and searched in
parallel. Passages are synthetic: 100 words drawn by Zipf's law from 100,000; questions are 6 words of a passage. Times
of builds and updates do not include embedding.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import version
from itertools import islice
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tantivy

from benchmarks.index import peak
from ragx.index.lexical import Lexical, lexical_shard_folder
from ragx.index.lexical_shard import HEAP, LexicalShard, write_lexical_shard
from ragx.retrieval.retriever import best_of

LANGUAGE = "english"
VOCABULARY = np.array([f"w{number}x" for number in range(100_000)])
WORDS = 100
"""Per passage."""
IN_MEMORY = 1_000_000
"""Passages up to which all are made before the clock starts; of more, making them counts too."""


def texts(number: int, seed: int) -> Iterator[str]:
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(VOCABULARY) + 1)
    edges = np.cumsum(weights / weights.sum())
    for _ in range(number):
        places = np.minimum(np.searchsorted(edges, generator.random(WORDS)), len(VOCABULARY) - 1)
        yield " ".join(VOCABULARY[places])


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sampled(passages: int, number: int) -> list[str]:
    """Questions of six words of a passage."""
    generator = np.random.default_rng(2)
    rows = set(generator.choice(passages, number, replace=False).tolist())
    drawn = (text for row, text in enumerate(texts(passages, 0)) if row in rows)
    return [" ".join(generator.choice(text.split(), 6)) for text in drawn]


def build_bare(folder: Path, documents: Iterable[tuple[int, str]]) -> tantivy.Index:
    """Build an index as in tantivy-py's documentation, with the default analyzer."""
    folder.mkdir()
    schema = tantivy.SchemaBuilder().add_unsigned_field("row", fast=True).add_text_field("text").build()
    index = tantivy.Index(schema, str(folder))
    writer = index.writer(HEAP, num_threads=1)
    for row, text in documents:
        document = tantivy.Document()
        document.add_unsigned("row", row)
        document.add_text("text", text)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index


def percentiles(answer: Callable[[str], object], questions: list[str]) -> dict[str, float]:
    """Latency in milliseconds."""
    seconds = [timed(lambda: answer(question)) for question in questions]  # noqa: B023
    return {f"p{p}_ms": round(float(np.percentile(seconds, p)) * 1e3, 2) for p in (50, 95)}


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def build(folder: Path, documents: Iterator[tuple[int, str]], rows: int, shards: int, threads: int) -> None:
    """Build shards of at most `rows` documents."""
    for number in range(shards):
        of_shard = ((row % rows, text) for row, text in islice(documents, rows))
        write_lexical_shard(lexical_shard_folder(folder, number), LANGUAGE, of_shard, threads=threads)


def open_all(folder: Path, rows: int, shards: int) -> Lexical:
    opened = [LexicalShard.open(lexical_shard_folder(folder, number)) for number in range(shards)]
    return Lexical(opened, rows, LANGUAGE)


def searching(lexical: Lexical, threads: Executor) -> Callable[[str], object]:
    """What searches all shards for ten passages, as `Retriever` does."""

    def search(question: str) -> object:
        weights = lexical.weights(question)
        found = threads.map(lambda number, words: lexical.search(number, words, 10), range(len(weights)), weights)
        return best_of(found, 10)

    return search


def measure(
    passages: int, number: int, work: Path, *, shards: int = 1, threads: int = 1, alone: bool
) -> dict[str, object]:
    questions = sampled(passages, number)
    ours, theirs = work / "ours", work / "theirs"
    documents = [*enumerate(texts(passages, 0))] if passages <= IN_MEMORY else None
    size = ceil(passages / shards)
    seconds = timed(lambda: build(ours, iter(documents or enumerate(texts(passages, 0))), size, shards, threads))
    built_mb = peak()
    opening = timed(lambda: open_all(ours, size, shards))
    with ThreadPoolExecutor(shards) as pool:
        search = searching(open_all(ours, size, shards), pool)
        figures: dict[str, object] = {
            "build_s": round(seconds, 1),
            "build_peak_mb": round(built_mb),
            "megabytes": round(megabytes(ours), 1),
            "open_ms": round(opening * 1e3, 1),
            **percentiles(search, questions),
            "one_common_word": percentiles(search, ["w0x", "w1x", "w2x"] * 5),
        }
    last = lexical_shard_folder(ours, shards - 1)
    rows = passages - (shards - 1) * size
    more = [*enumerate(texts(passages // 100, 1), start=rows)]
    deleted = np.random.default_rng(3).choice(rows, len(more), replace=False).tolist()
    update = timed(lambda: write_lexical_shard(last, LANGUAGE, more, first=rows, deleted=deleted))
    one = [(rows + len(more), "a passage more")]
    figures["update_1_percent_s"] = round(update, 2)
    figures["update_one_passage_s"] = round(timed(lambda: write_lexical_shard(last, LANGUAGE, one, first=one[0][0])), 3)
    if alone:
        return figures
    seconds = timed(lambda: build_bare(theirs, documents or enumerate(texts(passages, 0))))
    index = tantivy.Index.open(str(theirs))
    searcher = index.searcher()
    figures["bare"] = {
        "build_s": round(seconds, 1),
        "megabytes": round(megabytes(theirs), 1),
        **percentiles(lambda question: searcher.search(index.parse_query(question, ["text"]), 10), questions),
    }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="that write a shard")
    parser.add_argument("--alone", action="store_true", help="do not compare with the bare binding")
    options = parser.parse_args()
    with TemporaryDirectory() as work:
        figures = measure(
            options.passages,
            options.questions,
            Path(work),
            shards=options.shards,
            threads=options.threads,
            alone=options.alone,
        )
    machine = {"machine": platform.processor() or platform.machine(), "tantivy": version("tantivy")}
    print(json.dumps({"passages": options.passages, **machine, **figures}, indent=2))


if __name__ == "__main__":
    main()
