"""BM25 scores follow the formula over the whole corpus, whatever the sharding."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import Stemmer
from bm25s import BM25
from bm25s.tokenization import Tokenized, Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_encoders import WordEncoder, passage, passages

from ragx.config import IndexSettings
from ragx.retrieval import Index, Retriever, bm25, build_index, postings
from ragx.types import Passage

WORDS = ["snow", "albedo", "soil", "cloud", "light"]  # their stems are themselves


def build(folder: Path, texts: list[Passage], shard_size: int = 100) -> Retriever:
    build_index(texts, folder, WordEncoder(), IndexSettings(shard_size=shard_size), quiet=True)
    return Retriever(Index.open(folder))


def found(retriever: Retriever, question: str, k: int = 10) -> list[tuple[str, float]]:
    return [(hit.passage.id, hit.score) for hit in retriever.search(question, k, "bm25")]


def formula(texts: list[str], question: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Lucene's BM25, whose term frequency part lacks the constant factor k1 + 1."""
    documents = [Counter(text.split()) for text in texts]
    average = sum(document.total() for document in documents) / len(documents)
    scores = [0.0] * len(texts)
    for word in question.split():
        frequency = sum(word in document for document in documents)
        idf = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
        for row, document in enumerate(documents):
            length = k1 * (1 - b + b * document.total() / average)
            scores[row] += idf * document[word] / (document[word] + length) if document[word] else 0.0
    return scores


words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@settings(deadline=None, max_examples=25)
@given(st.lists(words, min_size=1, max_size=20), words, st.integers(1, 20), st.integers(1, 25))
def test_scores_are_the_formulas_over_any_sharding_and_passages_without_a_word_are_no_hits(
    texts: list[str], question: str, shard_size: int, k: int
) -> None:
    with TemporaryDirectory() as folder:
        hits = found(build(Path(folder), passages(texts), shard_size), question, k)
    expected = formula(texts, question)
    matching = sum(score > 0 for score in expected)
    assert len(hits) == min(k, matching)
    assert [score for _, score in hits] == pytest.approx(sorted(expected, reverse=True)[: len(hits)], rel=1e-5)
    for identity, score in hits:
        assert score == pytest.approx(expected[int(identity[3:-2])], rel=1e-5)


def test_ties_come_in_passage_order(tmp_path: Path) -> None:
    retriever = build(tmp_path, passages(["snow"] * 9), shard_size=2)
    assert [identity for identity, _ in found(retriever, "snow", 4)] == [f"doc{n}#0" for n in range(4)]


def test_titles_count_and_words_match_by_stem(tmp_path: Path) -> None:
    retriever = build(tmp_path, [passage(0, "A long text.", title="Reflections"), passage(1, "Nothing.")])
    assert [identity for identity, _ in found(retriever, "What is reflected?")] == ["doc0#0"]


@pytest.mark.parametrize("question", ["", " ", "the", "What is the?", "?!", "zebra", "\ud800", "[SEP]"])
def test_a_question_without_a_known_word_has_no_hits(tmp_path: Path, question: str) -> None:
    assert found(build(tmp_path, passages(["snow reflects", "", "the"])), question) == []


def test_a_corpus_without_words_has_no_hits(tmp_path: Path) -> None:
    assert found(build(tmp_path, passages(["the", "?", "of"])), "the snow") == []


def by_word(index: BM25) -> dict[str, tuple[list[int], list[float]]]:
    starts = index.scores["indptr"]
    columns = {word: slice(*starts[column : column + 2]) for word, column in index.vocab_dict.items()}
    return {
        word: (index.scores["indices"][where].tolist(), index.scores["data"][where].tolist())
        for word, where in columns.items()
    }


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from([*WORDS, "the", "Schnee", "é1", "雪"]), max_size=8).map(" ".join), max_size=20),
    st.integers(1, 30),
    st.integers(1, 12),
)
def test_an_index_merged_from_blocks_of_any_size_is_the_one_that_bm25s_makes_in_memory(
    texts: list[str], block: int, merged: int
) -> None:
    tokenizer = Tokenizer(stopwords="english", stemmer=Stemmer.Stemmer("english"))
    tokens = list(tokenizer.tokenize(texts, return_as="stream", update_vocab=True, allow_empty=False))
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(bm25, "TOKENS_IN_BLOCK", block)
        patch.setattr(postings, "POSTINGS_MERGED", merged)
        patch.setattr(postings, "READ_AT_ONCE", block)
        written = bm25.build_bm25(texts, Path(folder) / "bm25")
        if not any(tokens):
            assert written == []
            assert not (Path(folder) / "bm25").exists()
            return
        expected = BM25(method="lucene")
        vocabulary = tokenizer.get_vocab_dict()
        expected.index(Tokenized(ids=tokens, vocab=vocabulary), create_empty_token=False, show_progress=False)
        assert {path.name for path in (Path(folder) / "bm25").iterdir()} == set(written)
        found = bm25.open_bm25(Path(folder) / "bm25")
        assert by_word(found) == by_word(expected)
        expected.save(Path(folder) / "theirs", show_progress=False)
        params = [json.loads((Path(folder) / name / "params.index.json").read_text()) for name in ("bm25", "theirs")]
        assert params[0] == params[1]
