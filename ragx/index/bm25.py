"""BM25 over all the passages of a generation, so that word statistics and scores do not depend on the sharding."""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Iterable
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ragx.index.postings import TOKENS_IN_BLOCK, Counted, Postings
from ragx.util.files import sync_file, sync_folder, writing

if TYPE_CHECKING:
    import bm25s

DATA, INDICES, INDPTR = (f"{name}.csc.index.npy" for name in ("data", "indices", "indptr"))
PARAMS, VOCABULARY = "params.index.json", "vocab.index.json"
COUNTS, LENGTHS, TOKENIZER = "counts.npy", "lengths.npy", "tokenizer.json"
"""What updates read and searches do not: how often a word stands in a passage, words of passages, who cut them."""
FILES = [DATA, INDICES, INDPTR, PARAMS, VOCABULARY, COUNTS, LENGTHS, TOKENIZER]
K1 = 1.5
B = 0.75


def build_bm25(
    texts: Iterable[str], folder: Path, counted: Counted | None = None, deleted: np.ndarray | None = None
) -> list[str]:
    """Index the texts, stemmed and without stop words, into a new `folder`; returns the names of the files written.

    Texts without a single word give no files. Memory does not grow with the texts; the disk holds 12 bytes for every
    word of a text while it runs, beside the 9 or more that stay. What was `counted` stands before the texts, as if it
    were read again, `deleted` rows of it as if they were empty.

    Raises:
        IndexFolderError: the files cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with closing(Postings(folder)) as postings:
        if counted is not None:
            postings.take(counted, np.empty(0, np.int64) if deleted is None else deleted)
        _count(texts, postings)
        if postings.tokens:
            _write(postings, folder)
            return FILES
    with writing(folder):
        folder.rmdir()
    return []


def _count(texts: Iterable[str], postings: Postings) -> None:
    import Stemmer
    from bm25s.tokenization import Tokenizer

    tokenizer = Tokenizer(stopwords="english", stemmer=Stemmer.Stemmer("english"))
    tokens, lengths = array("q"), array("q")
    for ids in tokenizer.tokenize(texts, return_as="stream", update_vocab=True, allow_empty=False):
        tokens.extend(ids)
        lengths.append(len(ids))
        if len(tokens) >= TOKENS_IN_BLOCK or len(lengths) >= TOKENS_IN_BLOCK:
            postings.count(tokens, lengths, tokenizer.get_vocab_dict())
            tokenizer.reset_vocab()
            tokens, lengths = array("q"), array("q")
    if lengths:
        postings.count(tokens, lengths, tokenizer.get_vocab_dict())


def _write(postings: Postings, folder: Path) -> None:
    """The files of a bm25s index, as `bm25s.BM25.save` writes them, and what the next update needs."""
    average = np.float64(postings.tokens / postings.passages)
    total = column = 0
    with writing(folder), ExitStack() as stack:
        data, indices, words, counts = (
            stack.enter_context((folder / name).open("wb")) for name in (DATA, INDICES, VOCABULARY, COUNTS)
        )
        smallest = np.min_scalar_type(postings.most).newbyteorder("<")
        starts = stack.enter_context(TemporaryFile(dir=folder))
        _write_header(data, "<f4", postings.total)
        _write_header(indices, "<i4", postings.total)
        _write_header(counts, smallest.str, postings.total)
        starts.write(np.zeros(1, "<i8").data)
        for part, frequencies, found in postings.merged():
            lines = (f"{json.dumps(word, ensure_ascii=False)}: {column + n}" for n, word in enumerate(part))
            words.write(((", " if column else "{") + ", ".join(lines)).encode())
            starts.write((np.cumsum(frequencies, dtype="<i8") + total).data)
            column += len(part)
            total += sum(frequencies)
            for entries, passages in found:
                indices.write(np.ascontiguousarray(entries["row"]).data)
                counts.write(entries["count"].astype(smallest).data)
                data.write(_scores(entries, passages, postings.passages, average).data)
        words.write(b"}")
        starts.seek(0)
        with (folder / INDPTR).open("wb") as indptr:
            _write_header(indptr, "<i8", column + 1)
            shutil.copyfileobj(starts, indptr)
        postings.lengths.seek(0)
        with (folder / LENGTHS).open("wb") as lengths:
            _write_header(lengths, "<i4", postings.passages)
            shutil.copyfileobj(postings.lengths, lengths)
        (folder / TOKENIZER).write_text(json.dumps(_tokenizer()), encoding="utf-8")
        params = {
            "k1": K1,
            "b": B,
            "delta": 0.5,
            "method": "lucene",
            "idf_method": "lucene",
            "dtype": "float32",
            "int_dtype": "int32",
            "num_docs": postings.passages,
            "version": version("bm25s"),
            "backend": "numpy",
        }
        (folder / PARAMS).write_text(json.dumps(params, indent=4), encoding="utf-8")
    with writing(folder):
        for name in FILES:
            sync_file(folder / name)
        sync_folder(folder)


def _scores(entries: np.ndarray, frequencies: np.ndarray, passages: int, average: np.float64) -> np.ndarray:
    """What each posting adds to its passage's score: Lucene's BM25, to the bit as bm25s computes it."""
    idf = np.log(1 + (passages - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
    count = entries["count"].astype(np.float32)
    scores: np.ndarray = (idf * (count / (K1 * ((1 - B) + B * entries["length"] / average) + count))).astype("<f4")
    return scores


def _write_header(file: BinaryIO, dtype: str, number: int) -> None:
    header: dict[str, Any] = {"descr": dtype, "fortran_order": False, "shape": (number,)}
    np.lib.format.write_array_header_1_0(file, header)


def _tokenizer() -> dict[str, str]:
    """What decides which words a text has."""
    return {package: version(package) for package in ("bm25s", "PyStemmer")}


def open_counted(folder: Path, passages: int) -> Counted | None:
    """What an index counted of its first `passages`; None where it does not say, or a new build may count otherwise.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    if not (folder / TOKENIZER).exists() or json.loads((folder / TOKENIZER).read_text()) != _tokenizer():
        return None
    starts, rows, counts, lengths = (
        np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (INDPTR, INDICES, COUNTS, LENGTHS)
    )
    words = list(json.loads((folder / VOCABULARY).read_text(encoding="utf-8")))
    if len(starts) != len(words) + 1 or not len(rows) == len(counts) == starts[-1] or len(lengths) < passages:
        raise ValueError("the files do not belong together")
    return Counted(passages, words, starts, rows, counts, lengths)


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
