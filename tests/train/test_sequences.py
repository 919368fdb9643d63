"""Sequences within or across documents, each a function of its position."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragx_train.data.sequences import Cat, Filter, Sequences
from ragx_train.settings import DocumentSettings, Mixture

from ragx.errors import CorpusError
from ragx.util.tokenization import Tokenizer, load_tokenizer
from tests.helpers.tiny_runs import corpus_of

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)
SEPARATOR = 7


def all_documents(lengths: list[int]) -> np.ndarray:
    return np.arange(len(lengths))


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 20), st.integers(0, 99), st.integers(0, 3))
def test_filter_yields_sequences_within_documents(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    part = Filter(corpus_of(lengths), all_documents(lengths), size, seed)
    assert part.size == sum(length // size for length in lengths)
    seen = [part[epoch * part.size + place][0] for place in range(part.size)]
    for ids in seen:
        assert len(ids) == size
        assert all(after == before + 1 for before, after in pairwise(ids))
        document = ids[0] // 1000
        assert ids[-1] < 1000 * document + lengths[document - 1]
    tokens = [token for ids in seen for token in ids]
    assert len(tokens) == len(set(tokens)), "no token is repeated in an epoch"


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 20), st.integers(0, 99), st.integers(0, 3))
def test_cat_joins_documents_by_the_separator(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    part = Cat(corpus_of(lengths), all_documents(lengths), size, seed, separator=SEPARATOR)
    assert part.size == (sum(lengths) + len(lengths)) // size
    seen = [part[epoch * part.size + place][0] for place in range(part.size)]
    counts: Counter[int] = Counter()
    for ids in seen:
        assert len(ids) == size
        counts.update(ids)
        for before, after in pairwise(ids):
            ends = before != SEPARATOR and before % 1000 == lengths[before // 1000 - 1] - 1
            if ends:
                assert after == SEPARATOR
            elif before == SEPARATOR:
                assert after % 1000 == 0
            else:
                assert after == before + 1
    assert counts.pop(SEPARATOR, 0) <= len(lengths)
    assert set(counts.values()) <= {1}


def test_epochs_differ_in_order_and_boundaries() -> None:
    lengths = [95, 77, 60]
    for part in (
        Filter(corpus_of(lengths), all_documents(lengths), 10, 0),
        Cat(corpus_of(lengths), all_documents(lengths), 10, 0, separator=SEPARATOR),
    ):
        first, second = ([part[epoch * part.size + place][0][0] for place in range(part.size)] for epoch in (0, 1))
        assert first != second
        assert sorted(first) != sorted(second)


def test_a_sequence_depends_on_its_position_alone_and_the_ratio_is_the_paper_s(decoder: Path) -> None:
    tokenizer = load_tokenizer(decoder)
    corpus = corpus_of([50, 30, 40, 25], ["long", "short", "long", "short"])
    settings = DocumentSettings(sources=["x"], filter_domains=["long"], test=0)
    one, other = (Sequences(corpus, settings, tokenizer, length=10, split="train", seed=3) for _ in range(2))
    in_order = [one[position] for position in range(60)]
    backwards = [other[position] for position in reversed(range(60))]
    assert in_order == backwards[::-1]
    assert in_order != [
        Sequences(corpus, settings, tokenizer, length=10, split="train", seed=4)[position] for position in range(60)
    ]
    single = sum(origin.startswith("long") and "," not in origin for _, origin in in_order)
    assert single >= 40  # two of three are from `filter`, which has only the long ones


@pytest.mark.parametrize("mix", [Mixture(filter=1, cat=0), Mixture(filter=0, cat=1)])
def test_filter_only_and_cat_only(mix: Mixture, decoder: Path) -> None:
    settings = DocumentSettings(sources=["x"], mix=mix, test=0)
    sequences = Sequences(corpus_of([25, 25]), settings, load_tokenizer(decoder), length=20, split="train", seed=0)
    ids = [token for position in range(8) for token in sequences[position][0]]
    assert (2 in ids) == (mix.cat == 1), "only joined documents have the separator"
    assert sequences.size == 2


def test_too_little_text_and_unknown_domains_are_named(decoder: Path) -> None:
    tokenizer = load_tokenizer(decoder)
    with pytest.raises(CorpusError, match="no sequence of 50 tokens"):
        Sequences(
            corpus_of([20, 30]), DocumentSettings(sources=["x"], test=0), tokenizer, length=50, split="train", seed=0
        )
    with pytest.raises(CorpusError, match="unknown domain 'books'"):
        Sequences(
            corpus_of([20]),
            DocumentSettings(sources=["x"], filter_domains=["books"], test=0),
            tokenizer,
            length=5,
            split="train",
            seed=0,
        )
    endless = Tokenizer(tokenizer.backend, {}, None)
    with pytest.raises(CorpusError, match="no end-of-text token"):
        Sequences(corpus_of([20]), DocumentSettings(sources=["x"], test=0), endless, length=5, split="train", seed=0)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 20), st.integers(1, 20), st.integers(0, 2))
def test_sequences_of_a_document_can_overlap(lengths: list[int], size: int, stride: int, epoch: int) -> None:
    part = Filter(corpus_of(lengths), all_documents(lengths), size, 0, stride)
    starts: dict[int, list[int]] = {}
    for place in range(part.size):
        ids = part[epoch * part.size + place][0]
        assert ids == list(range(ids[0], ids[0] + size))
        starts.setdefault(ids[0] // 1000, []).append(ids[0] % 1000)
    for number, length in enumerate(lengths, start=1):
        found = sorted(starts.get(number, []))
        assert all(after - before == stride for before, after in pairwise(found))
        if found:
            assert found[0] < stride
            assert length - (found[-1] + size) < stride, "no further one fits"
        else:
            assert length < size


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 20), st.integers(0, 99))
def test_documents_can_be_joined_with_a_start_token(lengths: list[int], size: int, seed: int) -> None:
    part = Cat(corpus_of(lengths), all_documents(lengths), size, seed, separator=SEPARATOR, start=5)
    order, _, shift = part._join(0)
    stream = [
        token
        for place in order.tolist()
        for token in (5, *range(1000 * (place + 1), 1000 * (place + 1) + lengths[place]), SEPARATOR)
    ]
    expected = [stream[at : at + size] for at in range(shift, len(stream) - size + 1, size)][: part.size]
    assert [part.sequence(0, number)[0] for number in range(part.size)] == expected
    assert part.size == (sum(lengths) + 2 * len(lengths)) // size


def test_domains_are_drawn_by_weight_and_not_mixed(decoder: Path) -> None:
    corpus = corpus_of([50, 30, 400, 25, 60], ["arxiv", "book", "c4", "book", "arxiv"])
    settings = DocumentSettings(
        sources=["x"],
        filter_weights={"arxiv": 0.5, "book": 0.5},
        cat_weights={"c4": 0.75, "arxiv": 0.2, "book": 0.05},
        separators="bos-eos",
        test=0,
    )
    sequences = Sequences(corpus, settings, load_tokenizer(decoder), length=10, split="train", seed=3)
    counts: Counter[tuple[str, str]] = Counter()
    for position in range(300):
        ids, origin = sequences[position]
        assert len(ids) == 10
        domains = {name.split()[0] for name in origin.split(", ")}
        assert len(domains) == 1, "documents are joined within one domain"
        counts["cat" if position % 3 == 1 else "filter", domains.pop()] += 1
    assert counts == {
        ("filter", "arxiv"): 100,
        ("filter", "book"): 100,
        ("cat", "c4"): 75,
        ("cat", "arxiv"): 20,
        ("cat", "book"): 5,
    }
    # filter has 5 sequences of book, and so 10 in turns with arxiv: with cat's, 15 before one is repeated
    assert sequences.size == 15
    with pytest.raises(CorpusError, match="one of its domains"):
        Sequences(
            corpus_of([400, 20], ["c4", "book"]),
            DocumentSettings(sources=["x"], cat_weights={"c4": 0.5, "book": 0.5}, test=0),
            load_tokenizer(decoder),
            length=100,
            split="train",
            seed=0,
        )
