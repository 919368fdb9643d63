"""Passages are verbatim spans that cover their document; the empty and the repeated ones are dropped and counted."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.config import Chunking
from ragx.corpus import Document, PassageCounts, split_passages, unique_passages
from ragx.corpus.chunking import token_spans
from ragx.corpus.document import Heading
from ragx.errors import CorpusError
from ragx.types import Passage, embedded_text, place

WHITESPACE = " \t\n\r\x0b\x0c\x1c\x85\xa0\u2003\u3000"
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab " + WHITESPACE)), max_size=80)
documents = st.builds(Document, st.just("d"), st.just("Title"), texts, st.just("/d.txt"))
letters = st.characters(exclude_categories=["Cs", "Cc", "Z"], max_codepoint=0x2FFF)  # below the scripts without spaces
spaced = st.lists(st.tuples(st.text(letters, max_size=8), st.text(WHITESPACE, min_size=1, max_size=3)), max_size=12)
documents_of_words = st.builds(
    Document, st.just("d"), st.just("Title"), spaced.map(lambda pairs: "".join(map("".join, pairs))), st.just("/d.txt")
)


@st.composite
def chunkings(draw: st.DrawFn, units: tuple[str, ...] = ("words", "tokens", "document")) -> Chunking:
    size = draw(st.integers(1, 6))
    return Chunking(
        unit=draw(st.sampled_from(units)),  # type: ignore[arg-type]
        size=size,
        overlap=draw(st.integers(0, size - 1)),
    )


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level tokenizer: a token a byte, and `<s>` a special token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from ragx.retrieval.tokenizer import plain_text_tokenizer

    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>", special=True)])
    return plain_text_tokenizer(backend.to_str(), None)


def split(text: str, **chunking) -> list[Passage]:
    document = Document("d", "T", text, "/d.txt")
    return list(split_passages([document], Chunking(**chunking)))


@given(documents, chunkings())
def test_a_passage_is_verbatim_and_positions_count_from_0(tokenizer, document: Document, chunking: Chunking):
    passages = list(split_passages([document], chunking, tokenizer))
    assert [passage.position for passage in passages] == list(range(len(passages)))
    assert len({passage.id for passage in passages}) == len(passages) >= 1
    for passage in passages:
        assert passage.text == document.text[passage.start : passage.end]
        assert (passage.document, passage.title, passage.source) == ("d", "Title", "/d.txt")


@given(documents_of_words, chunkings(("words",)))
def test_words_are_covered_in_order_and_repeated_only_by_the_overlap(document: Document, chunking: Chunking):
    words = document.text.split()
    passages = [passage.text.split() for passage in split_passages([document], chunking)]
    covered = list(passages[0])
    for before, passage in pairwise(passages):
        shared = before[len(before) - chunking.overlap :]
        assert passage[: len(shared)] == shared
        assert len(passage) > len(shared)  # the last one adds something too
        covered += passage[len(shared) :]
    assert covered == words
    assert all(len(passage) == chunking.size for passage in passages[:-1])
    assert len(passages[-1]) <= chunking.size


@given(documents, st.integers(1, 6))
def test_a_passage_of_words_runs_from_its_first_word_to_its_last(document: Document, size: int):
    for passage in split_passages([document], Chunking(size=size)):
        if document.text.strip():
            assert passage.text == passage.text.strip()


def test_the_default_is_100_words_without_overlap():
    passages = split(" ".join(str(number) for number in range(250)), **{})
    assert [len(passage.text.split()) for passage in passages] == [100, 100, 50]
    assert passages[1].text.startswith("100 ")


@given(documents, chunkings(("tokens",)))
def test_tokens_cover_all_visible_text_and_a_passage_holds_at_most_size_of_them(tokenizer, document, chunking):
    text = document.text
    passages = list(split_passages([document], chunking, tokenizer))
    covered = {index for passage in passages for index in range(passage.start, passage.end)}
    assert all(text[index].isspace() for index in set(range(len(text))) - covered)
    for before, passage in pairwise(passages):
        assert (before.start, before.end) <= (passage.start, passage.end)
    if text.isascii() and text.strip():  # a token is a byte
        visible = [sum(not character.isspace() for character in passage.text) for passage in passages]
        assert all(count == chunking.size for count in visible[:-1])
        assert 1 <= visible[-1] <= chunking.size


def test_a_special_token_in_the_text_is_text(tokenizer):
    document = Document("d", "", "a <s>", "/d")
    passages = split_passages([document], Chunking(unit="tokens", size=1), tokenizer)
    assert [passage.text for passage in passages] == ["a", "<", "s", ">"]


def test_a_long_text_is_tokenized_piece_by_piece_with_the_same_result(tokenizer):
    text = "naïve words, some 長い\n" * 40
    assert list(token_spans(text, tokenizer, piece_chars=10)) == list(token_spans(text, tokenizer))


def test_tokens_without_a_fast_tokenizer_are_an_error():
    with pytest.raises(CorpusError, match="fast tokenizer"):
        split_passages([], Chunking(unit="tokens"), None)


@pytest.mark.parametrize("text", ["", " \n ", "  a b  c \n"])
def test_whole_documents_are_not_split(text):
    assert [p.text for p in split(text, unit="document")] == [text]
    whole = Document("7", "T", text, "/psgs.tsv", whole=True)
    assert [p.text for p in split_passages([whole], Chunking(size=1))] == [text]


def test_empty_and_repeated_passages_are_dropped_and_counted():
    documents = [
        Document("a", "A", "one two -- ... three four", "/a"),
        Document("b", "B", "one\n two  five", "/b"),
        Document("c", "C", "", "/c"),
        Document("d", "D", "\u200b \ufeff", "/d"),
        Document("e", "E", "One two", "/e"),
    ]
    counts = PassageCounts()
    kept = list(unique_passages(split_passages(documents, Chunking(size=2)), counts))
    assert [passage.text for passage in kept] == ["one two", "three four", "five", "One two"]
    assert [passage.id for passage in kept] == ["a#0", "a#2", "b#1", "e#0"]
    assert counts == PassageCounts(documents=5, passages=4, empty=3, duplicates=1)


@given(st.lists(documents, max_size=6), chunkings(("words", "document")))
def test_the_counts_add_up_and_no_two_passages_kept_are_the_same(documents, chunking):
    passages = list(split_passages(documents, chunking))
    counts = PassageCounts()
    kept = [" ".join(passage.text.split()) for passage in unique_passages(passages, counts)]
    assert len(set(kept)) == len(kept) == counts.passages
    assert counts.documents == len(documents)
    assert counts.passages + counts.empty + counts.duplicates == len(passages)
    lost = {" ".join(passage.text.split()) for passage in passages} - set(kept)
    assert not any(unicodedata.category(character)[0] == "L" for text in lost for character in text)


def test_text_without_spaces_is_split_too() -> None:
    def sizes(text: str) -> list[int]:
        document = Document("d", "", text, "/d.txt")
        return [len(passage.text) for passage in split_passages([document], Chunking(size=10))]

    assert sizes("雪" * 25) == [10, 10, 5]
    assert sizes("x" * 1200) == [500, 500, 200]
    assert sizes("ab雪 cd") == [6]


def sections(*lines: tuple[int, str]) -> tuple[str, tuple[Heading, ...]]:
    """A text of headings (level from 1) and paragraphs (level 0), and its headings."""
    text, headings = "", []
    for level, line in lines:
        if level:
            headings.append(Heading(len(text), level, line))
        text += f"{line}\n"
    return text, tuple(headings)


def test_a_passage_has_the_headings_above_it_without_the_title_and_its_own() -> None:
    text, headings = sections((1, "Mill"), (0, "A B"), (2, "Wheel"), (0, "C D E"), (2, "Loft"), (3, "Doors"), (0, "F"))
    document = Document("d", "Mill", text, "/d.md", headings=headings)
    found = {passage.text: passage.headings for passage in split_passages([document], Chunking(size=1))}
    assert found == {
        "Mill": "",
        "A": "",
        "B": "",
        "Wheel": "",
        "C": "Wheel",
        "D": "Wheel",
        "E": "Wheel",
        "Loft": "",
        "Doors": "Loft",
        "F": "Loft > Doors",
    }


@given(st.lists(st.text("ab \f", max_size=6), min_size=1, max_size=6), st.integers(1, 3))
def test_a_passage_has_the_page_where_it_begins(pages: list[str], size: int) -> None:
    text = "\f".join(pages)
    document = Document("d", "Title", text, "/d.pdf", paged=True)
    for passage in split_passages([document], Chunking(size=size)):
        assert passage.page == 1 + text[: passage.start].count("\f")


def test_a_passage_carries_the_metadata_of_its_document_and_no_page_where_there_are_none() -> None:
    document = Document("d", "Title", "A\fB", "/d.txt", metadata='{"author": "Ada"}')
    found = list(split_passages([document], Chunking(size=1)))
    assert [(passage.metadata, passage.page) for passage in found] == [('{"author": "Ada"}', 0)] * 2


def test_short_pages_are_passages_of_their_own_and_long_ones_run_on():
    pages = ["one two", "", "three four five", "a b c d e f", "g h i j k l", "last page"]
    document = Document("a", "a", "\n\f".join(pages), "a", paged=True)
    passages = list(split_passages([document], Chunking(size=4)))
    assert [(passage.page, passage.text.split()) for passage in passages] == [
        (1, ["one", "two"]),
        (3, ["three", "four", "five"]),
        (4, ["a", "b", "c", "d"]),
        (4, ["e", "f", "g", "h"]),
        (5, ["i", "j", "k", "l"]),
        (6, ["last", "page"]),
    ]
    assert all(document.text[passage.start : passage.end] == passage.text for passage in passages)
    assert [place(passage) for passage in passages[2:4]] == ["page 4", "pages 4-5"]


@given(documents_of_words, st.integers(4, 12))
def test_no_passage_of_words_has_many_more_tokens_than_the_embedder_reads(tokenizer, document: Document, window: int):
    chunking = Chunking(size=5)
    passages = list(split_passages([document], chunking, tokenizer, window))
    whole = list(split_passages([document], chunking, tokenizer))
    assert "".join("".join(passage.text for passage in passages).split()) == "".join(document.text.split())
    assert {(whole.start, whole.end) for whole in whole if whole.end - whole.start <= window} <= {
        (passage.start, passage.end) for passage in passages
    }
    assert all(passage.end - passage.start <= 3 * window for passage in passages)
    assert [passage.position for passage in passages] == list(range(len(passages)))


def words_of(number: int, first: int = 0) -> str:
    return " ".join(str(first + word) for word in range(number))


def chunk_sections(*lines: tuple[int, str], **chunking) -> list[str]:
    text, headings = sections(*lines)
    document = Document("d", "Mill", text, "/d.md", headings=headings)
    return [" ".join(passage.text.split()) for passage in split_passages([document], Chunking(**chunking))]


def test_a_passage_that_is_half_full_ends_before_a_heading() -> None:
    lines = (0, words_of(5)), (2, "Wheel"), (0, words_of(9, 5)), (2, "Loft"), (0, "end")
    assert chunk_sections(*lines, size=10) == ["0 1 2 3 4", "Wheel 5 6 7 8 9 10 11 12 13", "Loft end"]
    lines = (0, words_of(4)), (2, "Wheel"), (0, words_of(3, 4)), (2, "Loft"), (3, "Doors"), (0, "end")
    assert chunk_sections(*lines, size=10) == ["0 1 2 3 Wheel 4 5 6", "Loft Doors end"]


def test_a_passage_that_begins_with_a_heading_repeats_no_words_before_it() -> None:
    lines = (0, words_of(5)), (2, "Wheel"), (0, words_of(6, 5))
    assert chunk_sections(*lines, size=6, overlap=2) == ["0 1 2 3 4", "Wheel 5 6 7 8 9", "8 9 10"]


@given(documents_of_words, st.sets(st.integers(0, 11)), chunkings(("words",)))
def test_passages_of_a_text_with_headings_tile_it(document: Document, numbers: set[int], chunking: Chunking) -> None:
    words = [match.start() for match in re.finditer(r"\S+", document.text)]
    starts = [start for number, start in enumerate(words) if number in numbers]
    document = replace(document, headings=tuple(Heading(start, 1, "Heading") for start in starts))
    passages = list(split_passages([document], chunking.model_copy(update={"overlap": 0})))
    assert passages
    assert [word for passage in passages for word in passage.text.split()] == document.text.split()
    assert all(document.text[passage.start : passage.end] == passage.text for passage in passages)
    for passage, following in pairwise(passages):
        size = len(passage.text.split())
        assert size == chunking.size or (chunking.size / 2 <= size < chunking.size and following.start in starts)


def test_a_divided_passage_leaves_room_for_its_headings(tokenizer) -> None:
    text, headings = sections((1, "Windmills"), (0, "x" * 200), (2, "Sails"), (0, "y" * 100))
    passages = list(split_passages([Document("d", "T", text, "/d.md", headings=headings)], Chunking(), tokenizer, 32))
    assert "".join("".join(passage.text for passage in passages).split()) == "".join(text.split())
    assert all(len("".join(embedded_text(passage).split())) <= 32 for passage in passages)
