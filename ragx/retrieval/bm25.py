"""BM25 over all the passages of a generation, so that word statistics and scores do not depend on the sharding."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragx.retrieval.durable import sync_file, sync_folder, writing

if TYPE_CHECKING:
    import bm25s

FILES = ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "params.index.json", "vocab.index.json")


def build_bm25(texts: Iterable[str], folder: Path) -> list[str]:
    """Index the texts, stemmed and without stop words, into a new `folder`; returns the names of the files written.

    Texts without a single word give no files.

    Raises:
        IndexFolderError: the files cannot be written.
    """
    import bm25s
    import Stemmer
    from bm25s.tokenization import Tokenized, Tokenizer

    tokenizer = Tokenizer(stopwords="english", stemmer=Stemmer.Stemmer("english"))
    stream = tokenizer.tokenize(texts, return_as="stream", update_vocab=True, allow_empty=False)
    tokens = [array("i", ids) for ids in stream]
    vocabulary = tokenizer.get_vocab_dict()
    if not vocabulary:
        return []
    index = bm25s.BM25(method="lucene")
    index.index(Tokenized(ids=tokens, vocab=vocabulary), create_empty_token=False, show_progress=False)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        index.save(folder, show_progress=False)
        for name in FILES:
            sync_file(folder / name)
        sync_folder(folder)
    return list(FILES)


def open_bm25(folder: Path) -> bm25s.BM25:
    """Map a BM25 index into memory.

    Raises:
        OSError, ValueError, KeyError: a file is missing or damaged.
    """
    import bm25s

    return bm25s.BM25.load(folder, mmap=True, show_progress=False)


def best_matches(index: bm25s.BM25, question: str, k: int, deleted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k passages of highest score: rows and scores, at most (k,). Best first, ties by row.

    A passage without any word of the question is no match, so a question of stop words alone has none; `deleted` rows
    never match.
    """
    import bm25s
    import Stemmer

    # A stemmer of its own: PyStemmer's are not safe to share between threads.
    words = bm25s.tokenize(
        [question], stopwords="english", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )[0]
    known = index.get_tokens_ids(words)
    if not known:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    scores = index.get_scores_from_ids(known)
    scores[deleted] = 0
    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:
        worst = np.partition(scores[rows], -k)[-k]
        rows = rows[scores[rows] >= worst]
    best = rows[np.lexsort((rows, -scores[rows]))[:k]]
    return best, scores[best]
