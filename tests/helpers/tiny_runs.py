"""Tiny documents, questions and runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from ragx_train.cli import load_recipe
from ragx_train.data.documents import Corpus
from ragx_train.engine.loop import Run
from ragx_train.settings import RecipeSettings

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
WORDS = ["snow", "sun", "soil", "light", "dark", "fresh", "most", "reflects", "absorbs", "it"]


def text(seed: int, words: int) -> str:
    """This many random words."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_documents(folder: Path, count: int = 40) -> Path:
    """Documents of 20 to 400 words in two domains."""
    rows = [{"text": text(n, 20 + 380 * n // count), "domain": "ab"[n % 2]} for n in range(count)]
    return write_rows(folder / "documents.jsonl", rows)


def write_questions(folder: Path, articles: int = 12) -> Path:
    """Four questions on two paragraphs of each article, with different answers."""
    rows = []
    for article in range(articles):
        for number in range(4):
            word = WORDS[(article + number) % len(WORDS)]
            paragraph = f"{text(article * 2 + number % 2, 12)}. The word is {word}."
            rows.append(
                {"question": "What is the word?", "answers": [word], "title": f"Part {article}", "context": paragraph}
            )
    return write_rows(folder / "questions.jsonl", rows)


def write_coloured_questions(folder: Path, colours: tuple[str, ...] = tuple("abcdefgh")) -> Path:
    """Four questions about each of 12 articles; beside the passage that names the colour is one that names none."""
    rows = []
    for number in range(48):
        title, colour = f"Part {number // 4}", colours[number % len(colours)]
        gold = {"title": title, "text": f"{text(number, 6)} thing {number} is {colour}", "is_gold": True}
        other = {"title": title, "text": f"{text(100 + number, 7)} thing {number}", "is_gold": False}
        rows.append({"question": f"colour of thing {number}", "answers": [colour], "ctxs": [gold, other]})
    return write_rows(folder / "questions.jsonl", rows)


def tiny_settings(recipe: str, decoder: Path, data: Path, *overrides: str) -> RecipeSettings:
    """The recipe's tiny.yaml around `decoder`, on the files in `data`."""
    settings = [f"model.decoder={decoder}", f"data.folder={data}", *overrides]
    return load_recipe(recipe, CONFIGS / recipe / "tiny.yaml", settings)


def run_recipe(recipe: str, out: Path, settings: RecipeSettings, **run: Any) -> None:
    """Run a recipe as its command does."""
    from importlib import import_module

    import_module(f"ragx_train.recipes.{recipe}").run(settings, Run(out, **run))


def corpus_of(lengths: list[int], domains: list[str] | None = None) -> Corpus:
    """A corpus in memory with distinct tokens: those of document d are 1000·d, 1000·d + 1, …"""
    names = domains or ["a"] * len(lengths)
    known = sorted(set(names))
    return Corpus(
        parts=[np.concatenate([np.arange(length) + 1000 * number for number, length in enumerate(lengths, start=1)])],
        part=np.zeros(len(lengths), dtype=np.int64),
        starts=np.cumsum([0, *lengths[:-1]]),
        lengths=np.array(lengths),
        keys=np.full(len(lengths), 2**63, dtype=np.uint64),
        domain=np.array([known.index(name) for name in names]),
        domains=known,
    )
