"""A question that needs three articles but names only the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ragx.config import IndexSettings
from ragx.index import build_index
from ragx.types import Hit
from tests.helpers.toy_embedders import WordEmbedder, passage

QUESTION = "Where was the painter of Winter Harbour born?"
FIRST, BRIDGE, LAST = "Winter Harbour", "Ida Brandt", "Mossby"
ARTICLES = {
    FIRST: "The painter of Winter Harbour, a canvas, was Ida Brandt.",
    BRIDGE: "Her mother kept an inn in Mossby.",
    LAST: "A town of ferries, known for rye bread.",
    **{f"Harbour {n}": f"A painter was born at the harbour, number {n}." for n in range(30)},
}


def build_articles(folder: Path) -> Path:
    found = [passage(number, text, title) for number, (title, text) in enumerate(ARTICLES.items())]
    build_index(found, folder, WordEmbedder(), IndexSettings(), quiet=True)
    return folder


def titles(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.title for hit in hits]
