"""Questions to begin with, about documents of the index. Small decoders write worse ones."""

from __future__ import annotations

import numpy as np

from ragx.corpus.document import one_line
from ragx.rag import RAG
from ragx.types import Passage

KNOWN = {
    "wikipedia-sample": [
        "Where was Andre Agassi born?",
        "Who wrote Animal Farm?",
        "When did Apollo 11 land on the Moon?",
    ]
}
"""By index name."""
SHOWN = 3
TRIED = 50
"""Passages looked at for so many different documents."""
LONGEST = 60
"""Characters of a title or heading."""


def example_questions(rag: RAG) -> list[str]:
    """Up to `SHOWN` questions, each about another document; the same ones for the same state of the index."""
    retriever = rag.retriever
    index = retriever.index
    if index.folder.name in KNOWN:
        return KNOWN[index.folder.name]
    selected = retriever.select(rag.where)
    rows: np.ndarray | range = range(index.total) if selected is None else np.flatnonzero(selected)
    places = np.random.default_rng(0).integers(len(rows), size=TRIED).tolist() if len(rows) else []
    questions: dict[str, str] = {}
    for row in (int(rows[place]) for place in places):
        passage = index.passage(row)
        if row not in index.deleted and passage.title.strip() and len(questions) < SHOWN:
            questions.setdefault(passage.title, _question(passage))
    return [*questions.values()]


def _question(passage: Passage) -> str:
    title = one_line(passage.title, LONGEST)
    heading = one_line(passage.headings.partition("\n")[0].rpartition(" > ")[2], LONGEST)
    return f"What does “{title}” say about “{heading}”?" if heading else f"Tell me about “{title}”."
