"""A tiny reader with working cross-attention, texts and questions to measure it on, and an index."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ragx.cepe.fresh import fresh
from ragx.cepe.placement import Placement
from ragx.config import IndexSettings
from ragx.index import Index, build_index
from ragx.reader.cepe import CepeReader
from ragx.retrieval import Retriever
from ragx.types import Passage
from ragx.util.tokenization import load_tokenizer
from tests.helpers.toy_embedders import WordEmbedder

WORDS = ["snow", "sun", "soil", "light", "dark", "fresh", "most", "reflects", "absorbs", "it"]
CITIES = ["Rome", "Bern", "Cork", "Graz"]


@pytest.fixture(scope="session")
def reader(tiny_decoder: Path) -> CepeReader:
    model = fresh(tiny_decoder, Placement(torch.float32, "cpu"), output_gain=0.5)
    return CepeReader(model, load_tokenizer(tiny_decoder))


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def text(seed: int, words: int) -> str:
    """Words drawn from a few, with a full stop after every eighth."""
    drawn = random.Random(seed).choices(WORDS, k=words)
    return " ".join(word + "." * (number % 8 == 7) for number, word in enumerate(drawn))


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three long documents, and one of a few tokens."""
    rows = [{"id": f"d{n}", "text": text(n, words)} for n, words in enumerate([2400, 1200, 10, 1400])]
    return write_rows(tmp_path_factory.mktemp("documents") / "documents.jsonl", rows)


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four questions with a gold passage each, and one without."""
    rows = [
        {"question": f"What lies in {city}?", "answers": [f"the {word}", word], "title": city, "context": text(n, 5)}
        for n, (city, word) in enumerate(zip(CITIES, ["moon", "rain", "lava", "dust"], strict=True))
    ]
    for row in rows:
        row["context"] = f"{row['context']} In {row['title']} lies {row['answers'][0]}."
    folder = tmp_path_factory.mktemp("questions")
    return write_rows(folder / "questions.jsonl", [*rows, {"question": "Why?", "answers": ["because"]}])


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve passages; three of them answer the first three questions."""
    texts = [
        *(f"In {city} lies the {word}." for city, word in zip(CITIES, ["moon", "rain", "lava"], strict=False)),
        *(f"{text(100 + n, 12)} lies in {CITIES[n % 4]}" for n in range(9)),
    ]
    passages = [Passage(f"p{n}#0", f"p{n}", "", words, 0, 0, len(words), "toy") for n, words in enumerate(texts)]
    folder = tmp_path_factory.mktemp("index")
    build_index(passages, folder, WordEmbedder(), IndexSettings(), quiet=True)
    return folder


@pytest.fixture(scope="session")
def retriever(index: Path) -> Retriever:
    return Retriever(Index.open(index))
