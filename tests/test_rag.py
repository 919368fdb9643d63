"""RAG: retrieval and reading, current generations, and mistakes."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ragx import RAG, Message, SamplingParams
from ragx.config import IndexSettings, ModelOptions, ReaderOptions
from ragx.errors import ConfigError, IndexFolderError
from ragx.index import Index, build_index, collect_garbage, remove, update_index
from ragx.reader.loading import open_readers
from ragx.retrieval import CurrentIndex, Retriever, open_index
from ragx.types import Hit
from tests.helpers.tiny_cross_encoders import FailingReranker, LengthReranker, save_cross_encoder
from tests.helpers.toy_embedders import WordEmbedder, passages

TEXTS = ["fresh snow reflects sunlight", "dark soil absorbs sunlight", "the open sea looks blue"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_index(passages(TEXTS), tmp_path / "index", WordEmbedder(), IndexSettings(), quiet=True)
    return tmp_path / "index"


@pytest.fixture(scope="module")
def models(tiny_decoder: Path) -> ModelOptions:
    return ModelOptions(model=str(tiny_decoder), dtype="float32")


@pytest.fixture
def rag(folder: Path, models: ModelOptions) -> RAG:
    readers, _ = open_readers(models)
    return RAG(open_index(folder, method="bm25"), readers, method="bm25")


SHORT = SamplingParams(max_new_tokens=8)


def texts(hits: list[object]) -> list[str]:
    return [hit.passage.text for hit in hits]  # type: ignore[attr-defined]


def test_text_that_was_deleted_and_collected_is_not_served_by_an_open_rag(rag: RAG, folder: Path) -> None:
    assert texts(rag.retrieve("snow sunlight", k=3)) == [TEXTS[0], TEXTS[1]]
    update_index(folder, delete=["doc0#0"], quiet=True)
    collect_garbage(folder, quiet=True)
    assert texts(rag.retrieve("snow sunlight", k=3)) == [TEXTS[1]]
    answer = rag.ask("snow sunlight", k=3, sampling=SHORT)
    assert texts(answer.hits) == [TEXTS[1]]


def test_a_rebuilt_index_is_reopened(rag: RAG, folder: Path) -> None:
    assert rag.retrieve("snow", k=1)
    remove(folder)
    build_index(passages(["green grass"]), folder, WordEmbedder(), IndexSettings(), quiet=True)
    assert texts(rag.retrieve("grass", k=1)) == ["green grass"]


def test_a_retriever_in_use_keeps_its_generation(rag: RAG, folder: Path) -> None:
    retriever = rag.retriever
    update_index(folder, delete=["doc0#0"], quiet=True)
    assert texts(retriever.search("snow", 1, "bm25")) == [TEXTS[0]]
    assert rag.retriever is not retriever
    assert rag.retriever is rag.retriever


def test_threads_that_ask_at_once_open_a_generation_once(folder: Path) -> None:
    opened: list[str] = []

    def open_generation(index: Index) -> Retriever:
        opened.append(index.generation)
        return Retriever(index)

    current = CurrentIndex(folder, open_generation)
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        assert current.retriever.search("snow", 1, "bm25")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["gen-0001"]


def test_ask_is_retrieve_then_read(rag: RAG) -> None:
    answer = rag.ask("What does snow reflect?", k=2, prompt_passages=1, sampling=SHORT)
    hits = rag.retrieve("What does snow reflect?", k=2)
    read = rag.read("What does snow reflect?", hits, options=ReaderOptions(prompt_passages=1), sampling=SHORT)
    assert (read.text, read.hits, read.citations) == (answer.text, answer.hits, answer.citations)


def test_the_pieces_of_an_answer_make_up_its_text(rag: RAG) -> None:
    pieces: list[str] = []
    answer = rag.ask("snow?", k=2, sampling=SamplingParams(max_new_tokens=30), on_text=pieces.append)
    assert "".join(pieces) == answer.text


def test_passages_are_known_before_they_are_read_and_marked_in_the_answer(rag: RAG) -> None:
    seen: list[Sequence[Hit] | str] = []
    short = SamplingParams(max_new_tokens=30)
    answer = rag.ask("snow?", k=2, sampling=short, marks=True, on_hits=seen.append, on_text=seen.append)
    hits, *pieces = seen
    assert hits == answer.hits
    assert "".join(map(str, pieces)) == answer.marked_text


def test_an_earlier_question_is_searched_too(rag: RAG) -> None:
    assert rag.retrieve("And why?", k=1) == []
    assert texts(rag.retrieve("And why?", k=1, history=[Message("user", "Is snow bright?")])) == [TEXTS[0]]


def test_a_question_about_something_new_finds_it_first(rag: RAG) -> None:
    history = [
        Message("user", "Is dark soil warm?"),
        Message("assistant", "Yes."),
        Message("user", "Why is soil dark?"),
    ]
    question = "What does fresh snow do?"
    assert texts(rag.retrieve(question, k=1, history=history)) == [TEXTS[0]]
    found = rag.retrieve(question, k=3, history=history)
    assert set(texts(found)) == set(TEXTS[:2])
    assert found[0].passage.text == TEXTS[0], "the question counts more than those before it"


def test_fewer_passages_than_k_are_noted(rag: RAG) -> None:
    assert any("3 passages" in note for note in rag.ask("snow", k=9, sampling=SHORT).notes)
    assert any("no passage" in note for note in rag.ask("owls", k=1, sampling=SHORT).notes)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"k": 0}, "k"),
        ({"prompt_passages": -1}, "prompt_passages"),
        ({"reader": "owl"}, "reader"),
        ({"method": "owl"}, "method"),
    ],
)
def test_an_argument_out_of_range_is_named(rag: RAG, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        rag.ask("snow?", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="empty"):
        rag.ask("  ")


def test_a_missing_index_is_reported_before_models_load(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="no index"):
        RAG.from_index(tmp_path / "none", model="absent")


def test_a_closed_rag_lets_go_of_its_models(rag: RAG) -> None:
    with rag:
        pass
    assert rag.readers == {}


def test_hits_are_reranked_for_the_question_after_fusion(folder: Path, models: ModelOptions) -> None:
    reranker = LengthReranker()
    readers, _ = open_readers(models)
    rag = RAG(open_index(folder, method="bm25"), readers, method="bm25", reranker=reranker)
    longest = sorted(TEXTS[:2], key=len, reverse=True)
    assert texts(rag.retrieve("snow sunlight", k=2)) == longest
    assert texts(rag.retrieve("snow sunlight", k=1)) == longest[:1]
    assert texts(rag.retrieve("snow sunlight", k=2, rerank="none")) == TEXTS[:2]
    history = [Message("user", "Is dark soil warm?")]
    assert texts(rag.retrieve("What does snow do?", k=3, history=history)) == longest
    assert reranker.questions[-1] == "What does snow do?"
    answer = rag.ask("snow sunlight", k=2, sampling=SHORT)
    assert [hit.reranker for hit in answer.hits] == ["longest", "longest"]


def test_a_reranker_that_fails_is_a_note_of_the_answer(folder: Path, models: ModelOptions) -> None:
    readers, _ = open_readers(models)
    rag = RAG(open_index(folder, method="bm25"), readers, method="bm25", reranker=FailingReranker())
    answer = rag.ask("snow sunlight", k=2, sampling=SHORT)
    assert texts(answer.hits) == TEXTS[:2]
    assert [note for note in answer.notes if note.startswith("failing failed: ")]


def test_a_reranker_is_opened_by_name(folder: Path, models: ModelOptions, tmp_path: Path) -> None:
    name = str(save_cross_encoder(tmp_path / "model"))
    with RAG.from_index(folder, method="bm25", model=models.model, dtype="float32", device="cpu", rerank=name) as rag:
        (first, second) = rag.retrieve("snow sunlight", k=2)
        assert first.reranker == second.reranker == name
        assert first.rerank_score >= second.rerank_score  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"^rerank: "):
        rag.retrieve("snow", rerank="")


def test_filters_restrict_what_is_read(rag: RAG, folder: Path) -> None:
    where = 'document in ["doc1", "doc2"]'
    hits = rag.retrieve("snow sunlight", k=3, where=where)
    assert texts(hits) == [TEXTS[1]]
    assert hits.notes == ["k is 3, but 2 passages pass the filter"]
    answer = rag.ask("snow sunlight", k=1, where=where, sampling=SHORT)
    assert texts(answer.hits) == [TEXTS[1]]
    follow_up = rag.retrieve(
        "And the sea?", history=[Message("user", "snow"), Message("assistant", "white")], where=where
    )
    assert texts(follow_up) == [TEXTS[2]]


def test_a_filter_of_all_questions_cannot_be_widened(rag: RAG, folder: Path) -> None:
    restricted = RAG(open_index(folder, method="bm25"), rag.readers, method="bm25", where='document == "doc1"')
    assert texts(restricted.retrieve("sunlight", k=3)) == [TEXTS[1]]
    assert texts(restricted.retrieve("sunlight", k=3, where='document == "doc0"')) == []
    with pytest.raises(ConfigError, match="cannot read"):
        restricted.retrieve("sunlight", k=3, where='document == "doc0") or (document == "doc0"')


def test_a_mistaken_filter_is_reported_before_models_load(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no field 'year'"):
        RAG.from_index(folder, method="bm25", where="year > 2020", model="no such model")


def test_passages_that_the_reranker_finds_far_worse_are_not_read(rag: RAG) -> None:
    def read(**options: Any) -> list[str]:
        found: list[Sequence[Hit]] = []
        answer = rag.ask("snow sunlight soil sea", k=9, sampling=SHORT, on_hits=found.append, **options)
        assert found == [answer.hits]
        return texts(answer.hits)

    everything = read()
    assert read(within=0) == everything, "no reranker, no scores"
    rag.reranker = LengthReranker()
    by_length = sorted(everything, key=len, reverse=True)
    margin = len(by_length[0]) - len(by_length[1])
    assert len(everything) > 2
    assert len(by_length[2]) < len(by_length[1])
    assert read() == by_length
    assert read(within=margin) == by_length[:2]
    rag.readers["full"].within = margin
    assert read() == by_length[:2], "what the reader was measured best with"
    assert read(within=math.inf) == by_length
    with pytest.raises(ConfigError, match="within"):
        rag.ask("snow?", within=-1)
