"""Documents -> passages: chunking, and dropping empty and repeated passages."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING

from ragx.config import Chunking
from ragx.corpus.document import Document
from ragx.corpus.origins import Origins
from ragx.corpus.seen import Seen
from ragx.errors import CorpusError
from ragx.types import Passage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Span = tuple[int, int]
"""Character offsets of the first character and after the last one."""

_LONGEST_WORD = 50
_IDEOGRAPH = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]{{1,{_LONGEST_WORD}}}")

_LONGEST_TITLE = 1000
_CHARS_PER_TOKEN = 3
"""Prose has more; only passages with fewer are tokenized to be fitted to the embedder's window."""
TOKENIZED_CHARS = 1 << 16
"""Text that the tokenizer gets at a time: this limits the memory and is faster than all at once."""
_SPACE = re.compile(r"\s")


@dataclass(slots=True)
class PassageCounts:
    """What `unique_passages` read and kept."""

    documents: int = 0
    passages: int = 0
    """Kept."""
    empty: int = 0
    """Dropped: neither a letter nor a digit."""
    duplicates: int = 0
    """Dropped: an earlier passage has the same text, up to whitespace."""


def split_passages(
    documents: Iterable[Document],
    chunking: Chunking,
    tokenizer: Tokenizer | None = None,
    window: int | None = None,
) -> Iterator[Passage]:
    """Chunk documents into passages, as `split_document` does.

    Raises:
        CorpusError: as `check_tokenizer`.
    """
    check_tokenizer(chunking, tokenizer)
    return (passage for document in documents for passage in split_document(document, chunking, tokenizer, window))


def check_tokenizer(chunking: Chunking, tokenizer: Tokenizer | None) -> None:
    """Check that documents can be chunked in the unit that the settings name.

    Raises:
        CorpusError: the unit is tokens and the tokenizer does not tell their positions in the text.
    """
    if chunking.unit == "tokens" and tokenizer is None:
        raise CorpusError("chunking by tokens needs an embedder with a fast tokenizer: use chunking.unit=words")


def split_document(
    document: Document,
    chunking: Chunking,
    tokenizer: Tokenizer | None = None,
    window: int | None = None,
) -> Iterator[Passage]:
    """Chunk a document into passages whose text is verbatim `document.text[start:end]`; at least one, perhaps empty.

    A page that fits into one passage, such as a slide, is a passage of its own. A passage that is at least half full
    ends before a heading, and the next begins with it, without overlap.

    Args:
        document: the document.
        chunking: unit, size and overlap.
        tokenizer: the embedder's, for `chunking.unit: tokens` and `window`.
        window: tokens that the embedder reads. Passages of words that clearly exceed it, such as lists of addresses,
            are divided further.
    """
    text = document.text
    whole = (0, len(text))
    spans: Iterable[Span]
    if document.whole or chunking.unit == "document":
        spans = (whole,)
    else:
        starts = [heading.start for heading in document.headings]
        spans = (
            (first + start, first + end)
            for first, last in sections(document, chunking.size)
            for start, end in windows(
                _unit_spans(text[first:last], chunking, tokenizer),
                chunking.size,
                chunking.overlap,
                [start - first for start in starts[bisect_right(starts, first) : bisect_left(starts, last)]],
            )
        )
        if chunking.unit == "words" and tokenizer is not None and window is not None:
            spans = _fitting(document, spans, tokenizer, window)
    position = -1
    origins = Origins(document)
    for position, (start, end) in enumerate(spans):
        yield _passage(document, position, start, end, origins)
    if position < 0:
        yield _passage(document, 0, *whole, origins)


def sections(document: Document, size: int) -> Iterator[Span]:
    """The parts of a document that no passage crosses: pages of at most `size` words, and runs of longer pages."""
    start = end = 0
    for page in document.text.split("\f") if document.paged else ():
        if sum(1 for _ in islice(word_spans(page), size + 1)) <= size:
            if start < end:
                yield start, end
            yield end, end + len(page)
            start = end + len(page) + 1
        end += len(page) + 1
    if start < len(document.text):
        yield start, len(document.text)


def _unit_spans(text: str, chunking: Chunking, tokenizer: Tokenizer | None) -> Iterator[Span]:
    if chunking.unit == "tokens" and tokenizer is not None:
        return token_spans(text, tokenizer)
    return word_spans(text)


def _fitting(document: Document, spans: Iterable[Span], tokenizer: Tokenizer, window: int) -> Iterator[Span]:
    """The spans, with those divided that probably exceed the embedder's window beside the title and headings."""
    origins = Origins(document)

    @lru_cache(maxsize=4)
    def length(text: str) -> int:
        return len(list(token_spans(text[:_LONGEST_TITLE], tokenizer)))

    room = window - tokenizer.num_special_tokens_to_add(is_pair=False) - length(document.title)
    for start, end in spans:
        headings = max(length(origins.headings(place)) for place in (start, end))
        size = max(room - headings, window // 2)
        if end - start <= _CHARS_PER_TOKEN * size:
            yield start, end
        else:
            done = start
            for first, last in windows(token_spans(document.text[start:end], tokenizer), size, 0):
                if done < start + last:  # several tokens can be parts of one character
                    yield max(done, start + first), start + last
                    done = start + last


def unique_passages(passages: Iterable[Passage], counts: PassageCounts, texts: Seen | None = None) -> Iterator[Passage]:
    """The passages that are neither empty nor repeat an earlier text. Updates `counts`.

    `texts` holds the `text_key` of earlier texts, and gets those of these passages.
    """
    texts = Seen() if texts is None else texts
    for passage in passages:
        counts.documents += passage.position == 0
        if not any(character.isalnum() for character in passage.text):
            counts.empty += 1
        elif texts.add(text_key(passage.text)):
            counts.passages += 1
            yield passage
        else:
            counts.duplicates += 1


def text_key(text: str) -> str:
    """A digest in hexadecimal, the same for texts that differ only in whitespace."""
    return blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _passage(document: Document, position: int, start: int, end: int, origins: Origins) -> Passage:
    return Passage(
        id=f"{document.id}#{position}",
        document=document.id,
        title=document.title,
        text=document.text[start:end],
        position=position,
        start=start,
        end=end,
        source=document.source,
        metadata=document.metadata,
        headings=origins.headings(start),
        page=origins.page(start),
    )


def word_spans(text: str) -> Iterator[Span]:
    """Runs of characters between whitespace.

    Each Chinese or Japanese character is a word; longer runs are cut every `_LONGEST_WORD` characters.
    """
    return (match.span() for match in _WORD.finditer(text))


def token_spans(text: str, tokenizer: Tokenizer, piece_chars: int = TOKENIZED_CHARS) -> Iterator[Span]:
    """The spans of the tokens of `text`, without surrounding whitespace. Names of special tokens are ordinary text.

    A token that is only part of a character (byte-level BPE) has the span of the whole character. The tokenizer gets
    the text in pieces of `piece_chars` to twice as many characters.
    """
    for start, piece in _pieces(text, piece_chars):
        for first, last in tokenizer.encode(piece, add_special_tokens=False).offsets:
            token = piece[first:last]
            if stripped := token.strip():
                begin = start + first + len(token) - len(token.lstrip())
                yield begin, begin + len(stripped)


def _pieces(text: str, chars: int) -> Iterator[tuple[int, str]]:
    """`text` in pieces of `chars` to `2 * chars` characters with their offsets, cut at whitespace where possible."""
    start = 0
    while start < len(text):
        end = start + chars
        space = _SPACE.search(text, end, end + chars)
        end = space.start() if space else end + chars
        yield start, text[start:end]
        start = end


def windows(spans: Iterator[Span], size: int, overlap: int, breaks: Sequence[int] = ()) -> Iterator[Span]:
    """Windows of `size` spans, each starting with the last `overlap` of the previous window and adding at least one.

    A window that is at least half full ends before the first of `breaks`, increasing offsets; the next has no overlap.
    """
    least = (size + 1) // 2
    window = list(islice(spans, size))
    while window:
        end = len(window)
        if end > least and (place := bisect_right(breaks, window[least - 1][0])) < len(breaks):
            end = bisect_left(window, (breaks[place], 0))
        yield window[0][0], window[end - 1][1]
        if end < len(window):
            window = window[end:]
            window += islice(spans, size - len(window))
        else:
            fresh = list(islice(spans, size - overlap))
            window = window[len(window) - overlap :] + fresh if fresh else []
