"""Lexical search: BM25 over the words of all passages, in one tantivy index for all shards.

A tantivy index is a set of immutable segments and a `meta.json` that lists them. A document is a passage's row number
and the words of its title, headings and text; the text itself is not stored. An update adds a segment and marks
documents as deleted, so its cost depends only on the size of the change.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import numpy as np

from ragx.errors import RagxError
from ragx.util.files import durable_file

if TYPE_CHECKING:
    import tantivy

HEAP = 128_000_000
"""Memory in bytes for new documents before they become a segment."""
META = "meta.json"
_EXTRA_HITS = 32
"""Documents fetched beyond k, to sort ties at the end by row."""
_LISTED_ROWS = 5000
"""Rows up to which a search of some rows lists them to tantivy; otherwise it leaves the others out of more hits."""
_MAX_SPREAD = 50_000
"""Hits up to which that is the faster way."""
_NO_STOP_WORDS = {"arabic", "greek", "romanian", "tamil", "turkish"}
"""Languages with a stemmer but no stop words in tantivy."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""A run of Thai, Lao, Burmese, Khmer, Chinese, Japanese or Korean, in which spaces do not separate all words."""


_IGNORED = re.compile("[\u00ad\u0591-\u05bd\u05bf\u05c1-\u05c7\u0640\u064b-\u0652\u2060\ufeff]")
"""Soft hyphens, other characters without a width, and Hebrew and Arabic vowel signs."""
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]+")
_ACCENTS = re.compile("[\u0300-\u0345]+")


class LexicalError(Exception):
    """The lexical index is damaged or cannot be written; the message is tantivy's."""


def write_lexical(
    folder: Path,
    language: str,
    documents: Iterable[tuple[int, str]],
    *,
    first: int | None = None,
    deleted: Iterable[int] = (),
) -> list[str]:
    """Add documents to the lexical index in `folder`, which is created if missing.

    Existing files are never modified, only unlinked, so they may be hard links to another generation's files.

    Args:
        folder: the index.
        language: as in `IndexSettings`.
        documents: rows and texts, read once.
        first: existing documents from this row on are deleted first; None: the index is new.
        deleted: other rows to delete.

    Returns:
        The names of the index's files; the folder may contain others.

    Raises:
        LexicalError: the index is damaged or cannot be written.
    """
    import tantivy

    with _tantivy():
        folder.mkdir(exist_ok=True)
        index = tantivy.Index(_schema(), str(folder))
        index.register_tokenizer("words", _analyzer(language))
        writer = index.writer(HEAP, num_threads=1)
        if first is not None:
            later = tantivy.Query.range_query(_schema(), "row", tantivy.FieldType.Unsigned, lower_bound=first)
            writer.delete_documents_by_query(later)
        writer.delete_documents_by_query(tantivy.Query.term_set_query(_schema(), "row", list(deleted)))
    _add(writer, documents)
    return _files(folder)


def has_deleted(folder: Path) -> bool:
    """Whether the index still contains words of deleted documents.

    Raises:
        LexicalError: it is damaged.
    """
    with _tantivy():
        return any(segment["deletes"] for segment in json.loads((folder / META).read_bytes())["segments"])


class Lexical:
    """A lexical index opened for search. Thread-safe."""

    def __init__(self, index: tantivy.Index, language: str) -> None:
        """Use `open`."""
        self._schema = index.schema
        self._searcher = index.searcher()
        self._language = language

    @classmethod
    def open(cls, folder: Path, language: str) -> Lexical:
        """Memory-map the index in `folder`, which may be read-only and may be deleted afterwards.

        Raises:
            LexicalError: it is damaged.
        """
        import tantivy

        with _tantivy(), _links(folder) as links:
            return cls(tantivy.Index.open(str(links)), language)

    def __len__(self) -> int:
        """Number of documents that are not deleted."""
        return int(self._searcher.num_docs)

    def best(self, question: str, k: int, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores, at most (k,), of the documents with the highest scores, best first, ties by row.

        Documents without a word of the question do not match, so a question with only stop words has no match.
        `wanted`: the rows to search, (rows,) bool; None: all. Scores are those of a search of all.

        Raises:
            LexicalError: the index is damaged.
        """
        with _tantivy():
            query, limit = self._query(question), k + _EXTRA_HITS
            if wanted is not None:
                number = int(np.count_nonzero(wanted))
                spread = math.ceil(1.25 * limit * len(wanted) / max(1, number))  # hits that hold as many wanted ones
                if number <= _LISTED_ROWS or spread > _MAX_SPREAD:
                    query, wanted = self._among(query, wanted), None
                else:
                    limit = spread
            while True:
                hits = self._searcher.search(query, limit, count=False).hits
                scores = np.array([score for score, _ in hits], np.float32)
                rows = np.array(self._searcher.fast_field_values("row", [place for _, place in hits]), np.int64)
                worst = scores[-1:]
                if wanted is not None:
                    scores, rows = scores[wanted[rows]], rows[wanted[rows]]
                if len(hits) < limit or (len(scores) >= k and scores[k - 1] > worst):
                    break
                if wanted is not None and len(scores) < k:
                    query, wanted, limit = self._among(query, wanted), None, k + _EXTRA_HITS
                else:
                    limit *= 4  # documents of the same score as the last may be missing
        best = np.lexsort((rows, -scores))[:k]
        return rows[best], scores[best]

    def _among(self, query: tantivy.Query, wanted: np.ndarray) -> tantivy.Query:
        """The query among these rows alone, (rows,) bool; slow for many."""
        import tantivy

        rows = tantivy.Query.term_set_query(self._schema, "row", np.flatnonzero(wanted).tolist())
        return tantivy.Query.boolean_query(
            [(tantivy.Occur.Must, query), (tantivy.Occur.Must, tantivy.Query.const_score_query(rows, 0.0))]
        )

    def _query(self, question: str) -> tantivy.Query:
        """Match any word of the question, weighted by its frequency there; not tantivy's query language."""
        import tantivy

        query = tantivy.Query
        words = Counter(_analyzer(self._language).analyze(spaced(question, unigrams=False)))
        terms = ((query.term_query(self._schema, "text", word, "freq"), count) for word, count in words.items())
        weighted = [query.boost_query(term, float(count)) if count > 1 else term for term, count in terms]
        return query.boolean_query([(tantivy.Occur.Should, term) for term in weighted])


def spaced(text: str, *, unigrams: bool) -> str:
    """The text as its words are indexed: scripts without spaces are divided into overlapping pairs of characters.

    It is in NFKC form, without soft hyphens, Greek accents, and Hebrew and Arabic vowel signs.

    With `unigrams`, for indexing, each character is added too, so that a question of a single character matches.
    """

    def grams(match: re.Match[str]) -> str:
        run = match[0]
        pairs = [run[at : at + 2] for at in range(len(run) - 1)]
        return f" {' '.join([*run, *pairs] if unigrams or not pairs else pairs)} "

    if text.isascii():
        return text
    text = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    text = _GREEK.sub(lambda match: _ACCENTS.sub("", unicodedata.normalize("NFD", match[0])), text)
    return _UNSPACED.sub(grams, text)


def _add(writer: tantivy.IndexWriter, documents: Iterable[tuple[int, str]]) -> None:
    import tantivy

    for row, text in documents:
        document = tantivy.Document()
        document.add_unsigned("row", row)
        document.add_text("text", spaced(text, unigrams=True))
        with _tantivy():
            writer.add_document(document)
    with _tantivy():
        writer.commit()
        writer.wait_merging_threads()


@cache
def _schema() -> tantivy.Schema:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("row", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name="words", index_option="freq")
    return builder.build()


@cache
def _analyzer(language: str) -> tantivy.TextAnalyzer:
    """Lower-case, stemmed words without stop words and accents."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.regex(r"\w+")).filter(Filter.lowercase())
    if language == "none":
        return builder.filter(Filter.ascii_fold()).build()
    if language not in _NO_STOP_WORDS:
        builder = builder.filter(Filter.stopword(language))
    if language == "english":  # its stemmer does not know accents: "Bronte" should find "Brontë"
        builder = builder.filter(Filter.ascii_fold())
    return builder.filter(Filter.stemmer(language)).filter(Filter.ascii_fold()).build()


def _files(folder: Path) -> list[str]:
    """`meta.json` and the files of its segments."""
    with _tantivy():
        meta = (folder / META).read_bytes()
        with durable_file(folder / META) as file:  # tantivy makes it readable by its owner only
            file.write(meta)
        segments = json.loads(meta)["segments"]
        deletes = {segment["segment_id"].replace("-", ""): segment["deletes"] for segment in segments}
        names = [META]
        for path in sorted(folder.iterdir()):
            segment, *stamp = path.name.split(".")[:-1] or [""]
            current = deletes.get(segment)
            if segment in deletes and (not stamp or (current and stamp == [str(current["opstamp"])])):
                names.append(path.name)
    return names


@contextmanager
def _links(folder: Path) -> Iterator[Path]:
    """A temporary folder of links to an index's files, because tantivy writes a lock file when it opens an index."""
    links = Path(mkdtemp(prefix="ragx-"))
    try:
        for path in folder.iterdir():
            (links / path.name).symlink_to(path.resolve())
        yield links
    finally:
        for _ in range(10):  # meanwhile a tantivy thread may write the lock again
            shutil.rmtree(links, ignore_errors=True)
            if not links.exists():
                break


@contextmanager
def _tantivy() -> Iterator[None]:
    """Turn tantivy's errors into a `LexicalError`; a Rust panic is not an `Exception`."""
    try:
        yield
    except (RagxError, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise LexicalError(" ".join(str(error).split())) from error
        raise
