"""Documents -> passages: cutting, and dropping what is empty or repeated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING

from ragx.config import Chunking
from ragx.corpus.document import Document
from ragx.corpus.seen import Seen
from ragx.errors import CorpusError
from ragx.types import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Character offsets of the first character and after the last one."""

_LONGEST_WORD = 50
_IDEOGRAPH = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]{{1,{_LONGEST_WORD}}}")

_TOKENIZED_CHARS = 1 << 16
"""How much text is given to the tokenizer at a time, which bounds the memory and is faster than all at once."""
_SPACE = re.compile(r"\s")


@dataclass(slots=True)
class PassageCounts:
    """What `unique_passages` saw and kept."""

    documents: int = 0
    passages: int = 0
    """Kept."""
    empty: int = 0
    """Dropped: neither a letter nor a digit."""
    duplicates: int = 0
    """Dropped: the text was seen before, whatever its title and whitespace."""


def split_passages(
    documents: Iterable[Document], chunking: Chunking, tokenizer: PreTrainedTokenizerBase | None = None
) -> Iterator[Passage]:
    """Cut each document into passages whose text is verbatim `document.text[start:end]`.

    A document gives at least one passage, be it an empty one, or those that it brings. `tokenizer`: the embedder's, for
    `chunking.unit: tokens`.

    Raises:
        CorpusError: the unit is tokens and the tokenizer does not say where in the text its tokens are.
    """
    if chunking.unit == "tokens" and (tokenizer is None or not tokenizer.is_fast):
        raise CorpusError("chunking by tokens needs an embedder with a fast tokenizer: use chunking.unit=words")
    return (passage for document in documents for passage in _split(document, chunking, tokenizer))


def unique_passages(
    passages: Iterable[Passage],
    counts: PassageCounts,
    earlier: Iterable[str] = (),
    *,
    seen: Seen | None = None,
    on_duplicate: Callable[[Passage], object] = lambda _: None,
) -> Iterator[Passage]:
    """The passages that are neither empty nor repeat one before, or an `earlier` text; `counts` is kept up to date.

    `seen` gets the `text_key` of every text that comes by, and `on_duplicate` every passage that repeats another.
    """
    seen = Seen() if seen is None else seen
    for text in earlier:
        seen.add(text_key(text))
    for passage in passages:
        counts.documents += passage.position == 0
        if not any(character.isalnum() for character in passage.text):
            counts.empty += 1
        elif seen.add(text_key(passage.text)):
            counts.passages += 1
            yield passage
        else:
            counts.duplicates += 1
            on_duplicate(passage)


def text_key(text: str) -> str:
    """The same, in hexadecimal, for texts that differ in whitespace alone."""
    return blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _split(document: Document, chunking: Chunking, tokenizer: PreTrainedTokenizerBase | None) -> Iterator[Passage]:
    if document.passages is not None:
        yield from document.passages
        return
    text = document.text
    whole = (0, len(text))
    spans: Iterable[Span]
    if document.whole or chunking.unit == "document":
        spans = (whole,)
    elif chunking.unit == "tokens" and tokenizer is not None:
        spans = windows(token_spans(text, tokenizer), chunking.size, chunking.overlap)
    else:
        spans = windows(word_spans(text), chunking.size, chunking.overlap)
    position = -1
    for position, (start, end) in enumerate(spans):
        yield _passage(document, position, start, end)
    if position < 0:
        yield _passage(document, 0, *whole)


def _passage(document: Document, position: int, start: int, end: int) -> Passage:
    return Passage(
        id=f"{document.id}#{position}",
        document=document.id,
        title=document.title,
        text=document.text[start:end],
        position=position,
        start=start,
        end=end,
        source=document.source,
    )


def word_spans(text: str) -> Iterator[Span]:
    """Runs of characters between whitespace; in scripts without spaces, and in endless runs, their pieces.

    A Chinese or Japanese character counts as a word, and so does every `_LONGEST_WORD` characters of a run.
    """
    return (match.span() for match in _WORD.finditer(text))


def token_spans(text: str, tokenizer: PreTrainedTokenizerBase) -> Iterator[Span]:
    """The tokens of `text`, without whitespace around them; a special token's name in the text is text like any other.

    A token that is only a part of a character (byte-level BPE) has the span of the whole character.
    """
    for start, piece in _pieces(text):
        offsets = tokenizer(
            piece,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            truncation=False,
            verbose=False,
        )["offset_mapping"]
        for first, last in offsets:
            token = piece[first:last]
            if stripped := token.strip():
                begin = start + first + len(token) - len(token.lstrip())
                yield begin, begin + len(stripped)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """`text` in pieces of bounded size with their offsets, cut at whitespace where there is some."""
    start = 0
    while start < len(text):
        end = start + _TOKENIZED_CHARS
        space = _SPACE.search(text, end, end + _TOKENIZED_CHARS)
        end = space.start() if space else end + _TOKENIZED_CHARS
        yield start, text[start:end]
        start = end


def windows(spans: Iterator[Span], size: int, overlap: int) -> Iterator[Span]:
    """Windows of `size` spans, each beginning with the last `overlap` of the one before and adding at least one."""
    window = list(islice(spans, size))
    while window:
        yield window[0][0], window[-1][1]
        fresh = list(islice(spans, size - overlap))
        window = window[len(window) - overlap :] + fresh if fresh else []
