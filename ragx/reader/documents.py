"""Whole documents instead of an index: their passages in the order in which a reader takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from ragx.config import Chunking
from ragx.corpus import Document, Skipped, read_documents, split_passages
from ragx.errors import CorpusError
from ragx.reader.base import DecoderReader, Reader
from ragx.reader.cepe import CHUNK_TOKENS
from ragx.retrieval import SearchResults
from ragx.types import Hit, Passage

WORDS = 192
"""Words of a passage for a model whose tokenizer is unknown: about `CHUNK_TOKENS`."""


def read_files(paths: Iterable[str | Path]) -> tuple[list[Document], list[Skipped]]:
    """The documents of files of any known format, and what was left out of them.

    Raises:
        CorpusError: a file does not exist or cannot be read, or none has text.
    """
    named = [Path(path) for path in paths]
    absolute = [str(path.absolute()) for path in named]
    documents: list[Document] = []
    skipped: list[Skipped] = []
    for entry in read_documents(named, archives=True):
        if isinstance(entry, Document):
            documents.append(entry)
        elif entry.source in absolute and not entry.partial:
            raise CorpusError(f"{entry.source}: {entry.reason}")
        else:
            skipped.append(entry)
    if not any(map(_has_text, documents)):
        raise CorpusError(f"there is no text in {', '.join(map(str, named))}")
    return documents, skipped


def document_hits(documents: Sequence[str | Path] | Sequence[Document], reader: Reader) -> SearchResults[Hit]:
    """The passages, of 256 tokens, of documents or of files for a reader, the last one first; with notes.

    Where memory does not hold all of them, it holds the last ones, which are next to the question.

    Raises:
        CorpusError: as `read_files`.
    """
    parsed = [each for each in documents if isinstance(each, Document)]
    skipped: list[Skipped] = []
    if not parsed:
        parsed, skipped = read_files(each for each in documents if not isinstance(each, Document))
    if isinstance(reader, DecoderReader):
        chunking, tokenizer = Chunking(unit="tokens", size=CHUNK_TOKENS), reader.tokenizer.backend
    else:
        chunking, tokenizer = Chunking(size=WORDS), None
    limit = reader.encoded_limit()
    held: deque[Passage] = deque(maxlen=None if limit is None else max(1, limit // CHUNK_TOKENS))
    number = 0
    for passage in filter(_has_text, split_passages(parsed, chunking, tokenizer)):
        held.append(passage)
        number += 1
    hits = SearchResults(Hit(passage, 0.0) for passage in reversed(held))
    hits.notes += left_out_note(skipped)
    if len(hits) < number:
        hits.notes.append(f"memory holds {len(hits)} of the {number} passages; only these, the last ones, are read")
    return hits


def left_out_note(skipped: Sequence[Skipped]) -> list[str]:
    """One line if anything of the documents was left out."""
    return [f"{len(skipped)} left out, first {skipped[0].source}: {skipped[0].reason}"] if skipped else []


def _has_text(part: Document | Passage) -> bool:
    return any(character.isalnum() for character in part.text)
