"""Late interaction: MaxSim exactly, and a projection that is only used with the encoder it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.errors import ModelError
from ragx.models.check import PROJECTION
from ragx.retrieval import SearchResults
from ragx.retrieval.rerankers import rerank
from ragx.retrieval.rerankers.late import LateReranker, Projection, load_projection, max_sim, save_projection
from ragx.types import Hit, Passage
from tests.helpers.toy_embedders import passages

WIDTH, DIMENSION = 12, 8


class WordEncoder:
    """Each word has a random state of its own."""

    def __init__(self, seed: int = 0, width: int = WIDTH) -> None:
        self._seed, self._width = seed, width

    def encode_text(self, text: str) -> np.ndarray:
        seeds = [[self._seed, *word.encode()] for word in text.split()]
        states = [np.random.default_rng(seed).normal(size=self._width) for seed in seeds]
        return np.array(states, np.float32).reshape(-1, self._width)

    def encode_all(self, passages: Sequence[Passage]) -> tuple[np.ndarray, list[int]]:
        states = [self.encode_text(passage.text) for passage in passages]
        return np.concatenate(states), [len(each) for each in states]


def projection(order: float = 0.0) -> Projection:
    random = np.random.default_rng(5)
    mean, importance = random.normal(size=(2, WIDTH)).astype(np.float16).astype(np.float32)
    matrix = random.normal(size=(WIDTH, DIMENSION)).astype(np.float16).astype(np.float32)
    return Projection(mean, matrix, importance, scale=3.0, order=order)


def score(values: Projection, question: np.ndarray, passage: np.ndarray) -> float:
    """By the definition, a pair of tokens at a time."""

    def unit(state: np.ndarray) -> np.ndarray:
        vector = (state - values.mean) @ values.matrix
        return np.asarray(vector / np.linalg.norm(vector))

    logits = [float((state - values.mean) @ values.importance) for state in question]
    weights = np.exp(logits) / np.exp(logits).sum()
    best = [max(float(unit(state) @ unit(other)) for other in passage) for state in question]
    return values.scale * float(np.dot(weights, best))


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), tokens=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_score_is_the_sum_of_each_question_token_s_best_match(lengths: list[int], tokens: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    question = random.normal(size=(tokens, WIDTH)).astype(np.float32)
    each = [random.normal(size=(length, WIDTH)).astype(np.float32) for length in lengths]
    values = projection()
    found = max_sim(values.question(question), values.passage(np.concatenate(each)), lengths)
    np.testing.assert_allclose(found, [score(values, question, passage) for passage in each], rtol=1e-4, atol=1e-5)


def test_a_passage_without_tokens_comes_last_and_shifts_no_other() -> None:
    values, encoder = projection(), WordEncoder()
    texts = ["", "snow light", "", "soil", ""]
    found = LateReranker("late", values, encoder).scores("fresh snow", passages(texts))
    alone = LateReranker("late", values, encoder).scores("fresh snow", passages(["snow light", "soil"]))
    np.testing.assert_allclose(found[[1, 3]], alone)
    assert max(found[[0, 2, 4]]) < min(alone)
    assert np.isfinite(LateReranker("late", values, encoder).scores("fresh snow", passages([""]))).all()


def test_hits_come_in_the_order_of_words_in_common() -> None:
    encoder = WordEncoder()
    plain = replace(projection(), mean=np.zeros(WIDTH, np.float32), matrix=np.eye(WIDTH, dtype=np.float32))
    hits = SearchResults(Hit(each, 0.0) for each in passages(["dark soil", "fresh air", "snow is fresh", "soil"]))
    rerank(hits, LateReranker("late", plain, encoder), "fresh snow")
    assert [hit.passage.text for hit in hits[:2]] == ["snow is fresh", "fresh air"]
    assert {hit.reranker for hit in hits} == {"late"}


def test_the_order_of_the_search_counts_as_much_as_was_learned() -> None:
    texts = ["dark soil", "fresh air", "snow is fresh", "soil"]
    plain = LateReranker("late", projection(), WordEncoder()).scores("fresh snow", passages(texts))
    for order in (0.5, 1000.0):
        hits = SearchResults(Hit(each, 0.0) for each in passages(texts))
        rerank(hits, LateReranker("late", projection(order), WordEncoder()), "fresh snow")
        expected = plain - order * np.log([1, 2, 3, 4])
        assert [hit.passage.text for hit in hits] == [texts[n] for n in np.argsort(-expected)]
        np.testing.assert_allclose([hit.rerank_score for hit in hits], sorted(expected, reverse=True), rtol=1e-5)
    assert [hit.passage.text for hit in hits] == texts


def test_a_projection_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_projection(tmp_path, projection(0.5), WordEncoder())
    loaded = load_projection(tmp_path, "reader", WordEncoder())
    for name, value in vars(projection(0.5)).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


class _Rounded(WordEncoder):
    """The same encoder in another number format."""

    def encode_text(self, text: str) -> np.ndarray:
        return np.round(super().encode_text(text) * 16) / 16


def test_it_goes_with_its_encoder_in_any_number_format_and_with_no_other(tmp_path: Path) -> None:
    save_projection(tmp_path, projection(), WordEncoder())
    load_projection(tmp_path, "reader", _Rounded())
    for other in (WordEncoder(seed=1), WordEncoder(width=16)):
        with pytest.raises(ModelError, match=r"another encoder than reader's"):
            load_projection(tmp_path, "reader", other)


def test_a_missing_or_damaged_projection_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"reader has no late\.safetensors: .*--kind late"):
        load_projection(tmp_path, "reader", WordEncoder())
    save_projection(tmp_path, replace(projection(), importance=np.zeros(3, np.float32)), WordEncoder())
    with pytest.raises(ModelError, match="shapes"):
        load_projection(tmp_path, "reader", WordEncoder())
    (tmp_path / PROJECTION).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"late\.safetensors is damaged"):
        load_projection(tmp_path, "reader", WordEncoder())
