"""Search without copies: passages about a text that do not repeat it, for a reader that continues the text."""

from __future__ import annotations

from ragx.retrieval.rerankers.base import Reranker, search_reranked
from ragx.retrieval.retriever import Retriever
from ragx.types import Passage, SearchMethod

SPARE = 50
"""Passages retrieved beyond those wanted, to replace those that repeat the text."""
RUN = 13
"""Words in a row that two texts share only if one copies the other, as in GPT-3's check for test data
(arXiv:2005.14165, appendix C). Training and evaluation must draw the same line; a shorter run finds more copies."""


def search_new(
    retriever: Retriever, query: str, text: str, k: int, method: SearchMethod, reranker: Reranker | None = None
) -> tuple[list[Passage], int]:
    """The passages that a query retrieves, best first, without those that repeat `text`.

    Returns:
        At least k passages if the index has them, and how many repeated the text.
    """
    hits = search_reranked(lambda k: retriever.search(query, k, method), query, k + SPARE, reranker)
    passages = [hit.passage for hit in hits]
    new = [passage for passage in passages if not repeats(passage.text, text)]
    return new, len(passages) - len(new)


def repeats(passage: str, text: str) -> bool:
    """Whether a passage shares a run of `RUN` words with a text, or, if it is shorter, all its words in a row."""
    ours, theirs = passage.lower().split(), text.lower().split()
    size = min(RUN, len(ours))
    return not _runs(ours, size).isdisjoint(_runs(theirs, size))


def _runs(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}
