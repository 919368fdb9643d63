"""Time of a search with and without a filter, on synthetic passages.

python -m benchmarks.filters [--passages 1000000] [--faiss Flat]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ragx.config import IndexSettings
from ragx.index import Index, build_index
from ragx.retrieval import Retriever
from ragx.types import Passage, SearchMethod

WORDS = 20_000
FILTERS = {"1 %": "year == 2024", "50 %": "even == true"}
QUESTIONS = 20
METHODS: tuple[SearchMethod, ...] = ("dense", "bm25", "hybrid")


class RandomEmbedder:
    """Unit vectors that follow from nothing but a seed."""

    name, fingerprint, dimension = "random", "r" * 64, 384

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def encode_passages(self, passages: Sequence[Passage], on_progress: Callable[[int], object]) -> np.ndarray:
        vectors = self._rng.standard_normal((len(passages), self.dimension), np.float32)
        on_progress(len(passages))
        units: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return units

    def encode_question(self, question: str) -> np.ndarray:
        vector = np.random.default_rng(len(question)).standard_normal(self.dimension, np.float32)
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit


def texts(number: int, words: int) -> Iterator[str]:
    """Texts of words whose frequencies follow Zipf's law."""
    rng = np.random.default_rng(1)
    frequencies = 1 / np.arange(1, WORDS + 1)
    cumulated = np.cumsum(frequencies / frequencies.sum())
    for start in range(0, number, 8192):
        for ids in np.searchsorted(cumulated, rng.random((min(8192, number - start), words))).tolist():
            yield " ".join(f"w{each}x" for each in ids)


def passages(number: int) -> Iterator[Passage]:
    """Passages that each have a document, a year and a flag of their own."""
    rng = np.random.default_rng(2)
    for row, text in enumerate(texts(number, 30)):
        fields = {"year": 1925 + int(rng.integers(100)), "even": row % 2 == 0, "number": row}
        yield Passage(f"{row}#0", str(row), "", text, 0, 0, len(text), "/corpus/rows.jsonl", json.dumps(fields))


def milliseconds(search: Callable[[str], object], questions: Sequence[str]) -> float:
    """The median."""
    times = []
    for question in questions:
        begin = time.perf_counter()
        search(question)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1000


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--faiss", default="Flat")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="ragx-filters-") as folder:
        settings = IndexSettings(language="none", faiss=options.faiss)
        build_index(passages(options.passages), Path(folder), RandomEmbedder(), settings, quiet=True)
        retriever = Retriever(Index.open(Path(folder)), RandomEmbedder())
        questions = list(texts(QUESTIONS, 6))
        results: dict[str, object] = {"passages": options.passages, "faiss": options.faiss}
        for where in FILTERS.values():
            begin = time.perf_counter()
            retriever.select(where)
            results[f"first use of {where}, s"] = round(time.perf_counter() - begin, 2)
        for method in METHODS:
            plain = milliseconds(lambda question: retriever.search(question, 60, method), questions)  # noqa: B023
            row = {"no filter, ms": round(plain, 1)}
            for share, where in FILTERS.items():
                took = milliseconds(
                    lambda question: retriever.search(question, 60, method, retriever.select(where)),  # noqa: B023
                    questions,
                )
                row |= {f"{share}, ms": round(took, 1), f"{share}, ratio": round(took / plain, 2)}
            results[method] = row
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
