"""Search for questions that need several passages: what the first hits name, and parts of the question.

`medium` follows the first hits: for each, the names in it that the question lacks (title, capitalised names, links) and
the words of the question that it lacks are searched by BM25. `high` searches the parts of the question too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

import numpy as np

from ragx.errors import RagxError
from ragx.retrieval.retriever import FUSION_DEPTH, RRF_CONSTANT, Retriever, SearchResults, fuse_results
from ragx.types import Effort, Hit, Passage, SearchMethod
from ragx.util.text import first_line

FOLLOWED = 2
"""First hits of the question, and of each of its parts, that are followed."""
KEPT = 1 / 2
"""Share of the k hits that stay those of the first searches."""
READ_CHARACTERS = 2_000
"""Of a passage, in which names are looked for; passages may be whole documents."""

_JOINING = "of|the|and|in|on|for|de|la|le|van|von|der|du|di|da|del|al|&"
_LOWER = "".join(letter for letter in map(chr, range(0x590)) if letter.islower())  # Latin, Greek, Cyrillic, Armenian
_NAME_WORD = rf"(?:[^\W\d_{_LOWER}][\w'’.-]*|\d[\w-]*)"
_NAMES = re.compile(rf"\b{_NAME_WORD}(?:(?:\s+(?:{_JOINING})){{0,2}}\s+{_NAME_WORD})*")
"""Capitalised words and numbers in a row; in scripts without capitals, every word."""
_LINKS = re.compile(r"\[\[([^\]|#\n]+)|\]\(<?(?!\w+:)([^)>#\s]+)")
"""`[[page]]`, and the relative target of `[text](target)`."""
_SUFFIX = re.compile(r"\.\w{1,5}$")
_WORDS = re.compile(r"\w+")

Split = Callable[[str], Sequence[str]]
"""The parts of a question that can be searched alone; none if it has only one."""


def search_with_effort(
    retriever: Retriever,
    queries: Sequence[str],
    k: int,
    *,
    effort: Effort = "low",
    method: SearchMethod = "hybrid",
    selected: np.ndarray | None = None,
    split: Split | None = None,
) -> SearchResults[Hit]:
    """The k best passages for a question, best first; with `low`, those of `Retriever.search_all`.

    With more effort, the first `KEPT` of them are those of the first searches, and the others come from the searches
    that follow these; the scores are then reciprocal ranks.

    Args:
        retriever: searches.
        queries: the question, and other wordings of it.
        k: how many passages.
        effort: how much to search.
        method: how to search for the queries and the parts of the question.
        selected: as for `Retriever.search`.
        split: divides the question, for `high`; None, or an error that it raises: it has no parts.

    Raises:
        ConfigError, IndexFolderError: as `Retriever.search`.
    """
    if effort == "low":
        return retriever.search_all(queries, k, method, selected)
    notes: list[str] = []
    parts = _parts(queries[0], split, notes) if effort == "high" else []
    depth = max(k, FUSION_DEPTH)
    first = retriever.search_all(queries, depth, method, selected)
    rankings = [first, *(retriever.search(part, depth, method, selected) for part in parts)]
    follow_ups = [
        retriever.search(query, depth, "bm25", selected)
        for query in dict.fromkeys(
            follow_up(question, hit.passage)
            for question, ranking in zip([queries[0], *parts], rankings, strict=True)
            for hit in ranking[:FOLLOWED]
        )
    ]
    start = [hit for hit, _ in fuse_results(rankings, lambda hit: hit.passage.id)]
    further = [hit for place in zip_longest(*follow_ups) for hit in place if hit is not None]  # one of each in turn
    kept = math.ceil(k * KEPT)
    chosen = {hit.passage.id: hit.passage for hit in [*start[:kept], *further, *start[kept:]]}
    scored = (Hit(passage, 1 / (RRF_CONSTANT + place)) for place, passage in enumerate([*chosen.values()][:k], 1))
    results = SearchResults(scored, first.unsearched)
    results.notes += notes
    return results


def follow_up(question: str, passage: Passage) -> str:
    """What to search for after a passage was found: the question's words that it lacks, and the names in it."""
    text = passage.text[:READ_CHARACTERS]
    here, words = _words(f"{passage.title} {text}"), _words(question)
    missing = [word for word in words if word not in here]
    links = [_SUFFIX.sub("", wiki or target) for wiki, target in _LINKS.findall(text)]
    names = dict.fromkeys([passage.title, *_NAMES.findall(text), *links])
    return " ".join([*missing, *(name for name in names if not _words(name).keys() <= words.keys())])


def _parts(question: str, split: Split | None, notes: list[str]) -> list[str]:
    try:
        return list(split(question)) if split is not None else []
    except RagxError as error:  # such as an API that does not answer
        notes.append(f"the question was not split: {first_line(error)}")
        return []


def _words(text: str) -> dict[str, None]:
    """Its words in lower case, in order."""
    return dict.fromkeys(_WORDS.findall(text.lower()))
