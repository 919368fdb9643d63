"""RagxVectorStore beyond the standard suite: storage, filters, diversity, relevance and other writers."""

from __future__ import annotations

import asyncio
import datetime
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index

from ragx.errors import ConfigError, IndexFolderError
from ragx.index import Index, verify
from ragx.langchain import RagxEmbeddings, RagxRetriever, RagxVectorStore


class CountedEmbeddings(DeterministicFakeEmbedding):
    """Random vectors; counts the documents embedded."""

    size: int = 8
    embedded: int = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += len(texts)
        return super().embed_documents(texts)


@pytest.fixture
def store(tmp_path: Path) -> RagxVectorStore:
    store = RagxVectorStore(tmp_path / "index", CountedEmbeddings())
    store.add_texts(["foo", "bar", "baz"], [{"page": n, "even": n % 2 == 0} for n in range(3)], ids=["a", "b", "c"])
    return store


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_another_process_can_open_it(store: RagxVectorStore) -> None:
    verify(store.folder)
    again = RagxVectorStore(store.folder, CountedEmbeddings())
    assert again.get_by_ids(["c", "absent", "a"]) == [
        Document(id="c", page_content="baz", metadata={"page": 2, "even": True}),
        Document(id="a", page_content="foo", metadata={"page": 0, "even": True}),
    ]
    again.delete(["a"])
    assert "a" not in ids(store.similarity_search("foo", k=3))


def test_known_texts_are_not_embedded_again(store: RagxVectorStore) -> None:
    embeddings = store.embeddings
    assert isinstance(embeddings, CountedEmbeddings)
    assert embeddings.embedded == 3
    store.add_texts(["foo", "new"], [{"page": 0, "even": True}, {}], ids=["a", "d"])
    store.delete(["b"])
    assert embeddings.embedded == 4


def test_scores_are_inner_products_best_first(store: RagxVectorStore) -> None:
    embeddings = CountedEmbeddings()
    question = np.array(embeddings.embed_query("foo"))
    expected = {
        id: question @ np.array(embeddings.embed_query(text))
        for id, text in {"a": "foo", "b": "bar", "c": "baz"}.items()
    }
    found = {document.id: score for document, score in store.similarity_search_with_score("foo", k=3)}
    assert found == pytest.approx(expected, rel=1e-3)  # stored as float16
    assert list(found.values()) == sorted(found.values(), reverse=True)
    by_vector = store.similarity_search_by_vector(question.tolist(), k=3)
    assert by_vector == store.similarity_search("foo", k=3)


def test_a_filter_searches_as_deep_as_needed(tmp_path: Path) -> None:
    store = RagxVectorStore(tmp_path / "index", CountedEmbeddings())
    store.add_texts([f"text {n}" for n in range(60)], [{"page": n} for n in range(60)])
    (found,) = store.similarity_search("text", k=3, filter={"page": 41})
    assert found.metadata == {"page": 41}
    last = store.similarity_search("text", k=60)[-2:]
    assert store.similarity_search("text", k=5, filter=lambda document: document in last) == last
    assert store.similarity_search("text", filter={"pages": 1}) == []


def test_marginal_relevance_skips_repetitions(tmp_path: Path) -> None:
    store = RagxVectorStore(tmp_path / "index")
    texts = ["Snow reflects sunlight.", "Snow reflects the sunlight.", "The sea is blue."]
    store.add_texts(texts, ids=["1", "2", "3"])
    question = "What does snow reflect?"
    assert set(ids(store.similarity_search(question, k=2))) == {"1", "2"}
    found = store.max_marginal_relevance_search(question, k=2, lambda_mult=0.3)
    assert "3" in ids(found)
    by_vector = store.embeddings.embed_query(question)
    assert store.max_marginal_relevance_search_by_vector(by_vector, k=2, lambda_mult=0.3) == found
    assert set(ids(store.max_marginal_relevance_search(question, k=2, lambda_mult=1.0))) == {"1", "2"}


def test_an_index_that_ragx_built_is_a_store(built_index: Path, tmp_path: Path) -> None:
    shutil.copytree(built_index, tmp_path / "index")
    store = RagxVectorStore(tmp_path / "index")
    assert store.similarity_search("How much sunlight does fresh snow reflect?", k=1) == [
        Document(
            id="Snow.txt#0",
            page_content="Fresh snow reflects up to 90 percent of the sunlight that reaches it.",
            metadata={
                "title": "Snow",
                "source": "notes/Snow.txt",
                "document": "Snow.txt",
                "position": 0,
                "start": 0,
                "end": 69,
            },
        )
    ]
    store.add_texts(["Clouds are white."], [{"title": "Clouds", "source": "sky.txt"}], ids=["clouds"])
    store.delete(["Snow.txt#0"])
    (first, *_) = RagxRetriever(index=store.folder, method="bm25").invoke("white clouds and snow")
    assert first.id == "clouds"
    passage = Index.open(store.folder).passage(Index.open(store.folder).find(["clouds"])["clouds"])
    assert (passage.title, passage.source) == ("Clouds", "sky.txt")


def test_relevance_is_between_0_and_1(tmp_path: Path) -> None:
    store = RagxVectorStore.from_texts(["snow", "soil"], RagxEmbeddings(), folder=tmp_path / "index")
    scores = [score for _, score in store.similarity_search_with_relevance_scores("snow")]
    assert scores[0] == pytest.approx(1, abs=1e-3)
    assert 0 < scores[1] < scores[0]
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.95})
    assert [document.page_content for document in retriever.invoke("snow")] == ["snow"]


def test_a_threshold_tells_related_text_from_unrelated(tmp_path: Path) -> None:
    related = ["Fresh snow reflects most of the sunlight.", "Snow is white because it scatters light."]
    unrelated = ["The lease ends in March.", "Stir the onions until they are brown.", "The pump weighs 14 kg."]
    store = RagxVectorStore.from_texts(related + unrelated, RagxEmbeddings(), folder=tmp_path / "index")
    scores = {
        document.page_content: score
        for document, score in store.similarity_search_with_relevance_scores("How much light does snow reflect?", k=5)
    }
    assert min(scores[text] for text in related) > 0.4
    assert max(scores[text] for text in unrelated) < 0.2


class Compass(Embeddings):
    """Vectors of length 12 in the plane: the text is their direction in degrees."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        if not text.isdecimal():
            return [0.0, 0.0]
        return [12 * math.cos(math.radians(int(text))), 12 * math.sin(math.radians(int(text)))]


@pytest.mark.filterwarnings("error:Relevance scores")
async def test_relevance_is_the_cosine_whatever_the_lengths_of_vectors(tmp_path: Path) -> None:
    store = RagxVectorStore.from_texts(["0", "60", "90", "180", "no direction"], Compass(), folder=tmp_path / "index")
    expected = {"0": 1, "60": 0.5, "90": 0, "no direction": 0, "180": 0}
    for found in (
        store.similarity_search_with_relevance_scores("0", k=5),
        await store.asimilarity_search_with_relevance_scores("0", k=5),
    ):
        assert {document.page_content: score for document, score in found} == pytest.approx(expected, abs=1e-3)
    near = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.4, "k": 5})
    assert [document.page_content for document in near.invoke("0")] == ["0", "60"]
    assert store.similarity_search_with_relevance_scores("0", filter=lambda document: False) == []
    assert await store.asimilarity_search_with_relevance_scores("0", filter=lambda document: False) == []


async def test_writers_in_one_process_wait_for_each_other(store: RagxVectorStore) -> None:
    await asyncio.gather(*(store.aadd_texts([f"text {n}"], ids=[str(n)]) for n in range(5)))
    assert len(store.get_by_ids([str(n) for n in range(5)])) == 5


def test_deleting_without_ids_deletes_all(store: RagxVectorStore) -> None:
    store.delete()
    assert store.similarity_search("foo") == []
    store.add_texts(iter(["foo"]), ids=["a"])
    assert ids(store.similarity_search("foo")) == ["a"]


def test_from_documents_takes_their_ids(tmp_path: Path, facts: list[Document]) -> None:
    store = RagxVectorStore.from_documents(facts, CountedEmbeddings(), folder=tmp_path / "index")
    assert store.get_by_ids(["Sea", "Snow"]) == [facts[2], facts[0]]


async def test_langchain_keeps_it_in_step_with_its_sources(tmp_path: Path) -> None:
    store = RagxVectorStore(tmp_path / "index", CountedEmbeddings())
    record = InMemoryRecordManager("notes")
    record.create_schema()

    def notes(*texts: str) -> list[Document]:
        return [Document(text, metadata={"source": "notes.txt"}) for text in texts]

    def kept() -> list[str]:
        return sorted(document.page_content for document in store.similarity_search("snow", k=9))

    options: dict[str, Any] = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": "sha256"}
    index(notes("snow", "soil"), record, store, **options)
    assert kept() == ["snow", "soil"]
    done = index(notes("snow", "sea"), record, store, **options)
    assert done == {"num_added": 1, "num_updated": 0, "num_skipped": 1, "num_deleted": 1}
    assert kept() == ["sea", "snow"]
    await aindex(notes("sand"), record, store, **options)
    assert kept() == ["sand"]


def test_mistakes_are_one_line_and_change_nothing(store: RagxVectorStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder"):
        RagxVectorStore.from_texts(["foo"], CountedEmbeddings())
    with pytest.raises(ConfigError, match="not JSON"):
        store.add_texts(["foo"], [{"day": datetime.date(2026, 1, 1)}], ids=["d"])
    with pytest.raises(ValueError, match="zip"):
        store.add_documents([Document("foo")], ids=["d", "e"])
    with pytest.raises(ConfigError, match="k must be"):
        store.similarity_search("foo", k=0)
    with pytest.raises(ConfigError, match="8 numbers"):
        store.similarity_search_by_vector([0.0, 1.0])
    other = RagxVectorStore(store.folder, CountedEmbeddings(size=9))
    for use in (lambda: other.similarity_search("foo"), lambda: other.add_texts(["foo"])):
        with pytest.raises(IndexFolderError, match="built with embedder"):
            use()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="neither empty nor an index"):
        RagxVectorStore(tmp_path, CountedEmbeddings()).add_texts(["foo"])
    assert len(store.similarity_search("foo", k=9)) == 3


def test_an_invalid_start_counts_as_0(store: RagxVectorStore) -> None:
    starts = {"huge": 2**70, "with no room for an end": 2**63 - 1, "true": True, "text": "5", "real": 5}
    store.add_texts(["new"] * len(starts), [{"start": start} for start in starts.values()], ids=list(starts))
    index = Index.open(store.folder)
    found = {id: index.passage(row).start for id, row in index.find(starts).items()}
    assert found == {id: 5 if id == "real" else 0 for id in starts}
    assert [document.metadata for document in store.get_by_ids(["huge", "true"])] == [{"start": 2**70}, {"start": True}]


def test_invalid_unicode_is_replaced(store: RagxVectorStore) -> None:
    embeddings = RagxEmbeddings()
    assert embeddings.embed_query("\ud800 x") == embeddings.embed_query("\ufffd x")
    assert embeddings.embed_documents(["\ud800 x"]) == embeddings.embed_documents(["\ufffd x"])
    store.add_texts(["bro\ud800ken"], [{"title": "\ud800", "source": "a\udcff.txt", "document": "\ud800"}], ids=["d"])
    assert store.get_by_ids(["d"])[0].page_content == "bro\ufffdken"
    index = Index.open(store.folder)
    passage = index.passage(index.find(["d"])["d"])
    assert (passage.title, passage.source, passage.document) == ("\ufffd", "a\ufffd.txt", "\ufffd")
    assert len(store.similarity_search("\ud800", k=4)) == 4
