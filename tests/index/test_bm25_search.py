"""BM25 scores follow the formula over the whole corpus, whatever the sharding."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import Stemmer
from bm25s import BM25
from bm25s.tokenization import Tokenized, Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from ragx.config import IndexSettings
from ragx.index import Index, bm25, build_index, postings, read_manifest, update_index, verify
from ragx.index import build as building
from ragx.index import index as opening
from ragx.index.manifest import write_manifest
from ragx.retrieval import Retriever
from ragx.types import Passage
from tests.helpers.toy_embedders import WordEmbedder, passage, passages

WORDS = ["snow", "albedo", "soil", "cloud", "light"]  # their stems are themselves


def build(folder: Path, texts: list[Passage], shard_size: int = 100) -> Retriever:
    build_index(texts, folder, WordEmbedder(), IndexSettings(shard_size=shard_size), quiet=True)
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


some_texts = st.lists(st.lists(st.sampled_from([*WORDS, "the", "Schnee", "é1"]), max_size=8).map(" ".join), max_size=12)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@settings(deadline=None, max_examples=60)
@given(some_texts, some_texts, st.data(), st.integers(1, 12))
def test_what_was_counted_and_new_texts_give_the_files_that_a_build_of_all_gives(
    before: list[str], after: list[str], data: st.DataObject, size: int
) -> None:
    kept = data.draw(st.integers(0, len(before)))
    gone = sorted(data.draw(st.sets(st.integers(0, max(0, kept - 1)), max_size=kept)))
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as name:
        first, updated, anew = (Path(name) / part for part in ("first", "updated", "anew"))
        patch.setattr(bm25, "TOKENS_IN_BLOCK", size)
        patch.setattr(postings, "POSTINGS_MERGED", size)
        bm25.build_bm25(before, first)
        counted = bm25.open_counted(first, kept)
        assert (counted is None) == (not first.exists())
        if counted is None:
            return
        bm25.build_bm25(after, updated, counted, np.array(gone, np.int64))
        bm25.build_bm25(["" if row in gone else text for row, text in enumerate(before[:kept])] + after, anew)
        assert contents(updated) == contents(anew)


def test_a_word_may_stand_in_a_passage_more_often_than_a_byte_can_say(tmp_path: Path) -> None:
    bm25.build_bm25(["snow " * 300, "snow"], tmp_path / "first")
    counted = bm25.open_counted(tmp_path / "first", 2)
    assert counted is not None
    assert counted.counts.tolist() == [300, 1]
    bm25.build_bm25(["soil"], tmp_path / "updated", counted)
    bm25.build_bm25(["snow " * 300, "snow", "soil"], tmp_path / "anew")
    assert contents(tmp_path / "updated") == contents(tmp_path / "anew")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts whose words are counted from now on."""
    read: list[str] = []

    def embedded_text(passage: Passage) -> str:
        read.append(passage.text)
        return passage.text

    monkeypatch.setattr(building, "embedded_text", embedded_text)
    return read


def test_an_update_counts_the_words_of_new_shards_alone(tmp_path: Path, counting: list[str]) -> None:
    build(tmp_path, passages(["snow soil", "snow", "cloud", "light light"]), shard_size=2)
    counting.clear()
    update_index(tmp_path, WordEmbedder(), add=[passage(4, "soil")], delete=["doc1#0"], quiet=True)
    assert counting == ["soil"]
    bm25.build_bm25(["snow soil", "", "cloud", "light light", "soil"], tmp_path.parent / "anew")
    assert contents(tmp_path / "gen-0002" / "bm25") == contents(tmp_path.parent / "anew")
    verify(tmp_path)


@pytest.mark.parametrize("case", ["absent", "damaged", "another tokenizer"])
def test_words_are_counted_anew_where_the_earlier_counts_cannot_be_relied_on(
    tmp_path: Path, counting: list[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    build(tmp_path, passages(["snow soil", "cloud"]), shard_size=2)
    generation = tmp_path / "gen-0001"
    counts = generation / "bm25" / "counts.npy"
    if case == "absent":  # as ragx wrote indexes before it kept them
        kept = {"bm25/counts.npy", "bm25/lengths.npy", "bm25/tokenizer.json"}
        manifest = read_manifest(tmp_path)
        files = {name: entry for name, entry in manifest.files.items() if name not in kept}
        write_manifest(manifest.model_copy(update={"files": files}), generation)
        for name in kept:
            (generation / name).unlink()
    elif case == "damaged":
        monkeypatch.setattr(opening, "READ_WHEN_OPENED", 0)  # as of a large index
        counts.write_bytes(counts.read_bytes()[:-1] + b"\7")
    else:
        monkeypatch.setattr(bm25, "version", lambda package: "0")
    counting.clear()
    update_index(tmp_path, WordEmbedder(), add=[passage(2, "soil")], quiet=True)
    assert counting == ["snow soil", "cloud", "soil"]
    bm25.build_bm25(["snow soil", "cloud", "soil"], tmp_path.parent / "anew")
    assert contents(tmp_path / "gen-0002" / "bm25") == contents(tmp_path.parent / "anew")
    verify(tmp_path)
