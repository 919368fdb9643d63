"""One shard of the lexical index: a tantivy index of a range of passages.

A tantivy index is a set of immutable segments and a `meta.json` that lists them. A document is the row of a passage in
the shard and the words of its title, headings and text; the text itself is not stored. An update adds a segment and
marks documents as deleted, so its cost depends only on the size of the change.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np

from ragx.errors import RagxError
from ragx.index.words import analyzer, spaced
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


class LexicalError(Exception):
    """The lexical index is damaged or cannot be written; the message is tantivy's."""


def write_lexical_shard(
    folder: Path,
    language: str,
    documents: Iterable[tuple[int, str]],
    *,
    first: int | None = None,
    deleted: Iterable[int] = (),
    threads: int = 1,
) -> list[str]:
    """Add documents to the lexical shard in `folder`, which is created if missing.

    Existing files are never modified, only unlinked, so they may be hard links to another generation's files.

    Args:
        folder: the shard.
        language: as in `IndexSettings`.
        documents: rows in the shard and texts, read once.
        first: existing documents from this row on are deleted first; None: the shard is new.
        deleted: other rows to delete.
        threads: number of writing threads. Each writes its own segments, so use several only for many documents.

    Returns:
        The names of the shard's files; the folder may contain others.

    Raises:
        LexicalError: the shard is damaged or cannot be written.
    """
    import tantivy

    with _tantivy():
        folder.mkdir(parents=True, exist_ok=True)
        index = tantivy.Index(_schema(), str(folder))
        index.register_tokenizer("words", analyzer(language))
        writer = index.writer(HEAP, num_threads=threads)
        if first is not None:
            later = tantivy.Query.range_query(_schema(), "row", tantivy.FieldType.Unsigned, lower_bound=first)
            writer.delete_documents_by_query(later)
        writer.delete_documents_by_query(tantivy.Query.term_set_query(_schema(), "row", list(deleted)))
    _add(writer, documents)
    return _files(folder)


def has_deleted(folder: Path) -> bool:
    """Whether the shard still contains words of deleted documents.

    Raises:
        LexicalError: it is damaged.
    """
    return any(segment["deletes"] for segment in _segments(folder))


class LexicalShard:
    """A shard opened for search. Thread-safe."""

    def __init__(self, index: tantivy.Index, documents: int) -> None:
        """Use `open`."""
        self._schema = index.schema
        self._searcher = index.searcher()
        self.documents = documents
        """Number of documents that BM25 counts: the deleted ones too, until their segments are merged."""

    @classmethod
    def open(cls, folder: Path) -> LexicalShard:
        """Memory-map the shard in `folder`, which may be read-only and may be deleted afterwards.

        Raises:
            LexicalError: it is damaged.
        """
        import tantivy

        with _tantivy(), _links(folder) as links:
            documents = sum(int(segment["max_doc"]) for segment in _segments(folder))
            return cls(tantivy.Index.open(str(links)), documents)

    def __len__(self) -> int:
        """Number of documents that are not deleted."""
        return int(self._searcher.num_docs)

    def frequency(self, word: str) -> int:
        """Number of documents with a word.

        Raises:
            LexicalError: the shard is damaged.
        """
        with _tantivy():
            return self._searcher.doc_freq("text", word)

    def best(
        self, words: Mapping[str, float], k: int, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores, at most (k,), of the documents with the highest scores, best first, ties by row.

        `words`: words and their weights; documents without any of them do not match. `wanted`: the rows to search,
        (rows,) bool; None: all. Scores are those of a search of all.

        Raises:
            LexicalError: the shard is damaged.
        """
        with _tantivy():
            query, limit = self._query(words), k + _EXTRA_HITS
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

    def _query(self, words: Mapping[str, float]) -> tantivy.Query:
        """Match any of the words; not tantivy's query language."""
        import tantivy

        query = tantivy.Query
        terms = ((query.term_query(self._schema, "text", word, "freq"), weight) for word, weight in words.items())
        weighted = [term if weight == 1 else query.boost_query(term, weight) for term, weight in terms]
        return query.boolean_query([(tantivy.Occur.Should, term) for term in weighted])


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


def _segments(folder: Path) -> list[dict[str, Any]]:
    with _tantivy():
        segments: list[dict[str, Any]] = json.loads((folder / META).read_bytes())["segments"]
        return segments


def _files(folder: Path) -> list[str]:
    """`meta.json` and the files of its segments."""
    with _tantivy():
        meta = (folder / META).read_bytes()
        with durable_file(folder / META) as file:  # tantivy makes it readable by its owner only
            file.write(meta)
        deletes = {
            segment["segment_id"].replace("-", ""): segment["deletes"] for segment in json.loads(meta)["segments"]
        }
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
