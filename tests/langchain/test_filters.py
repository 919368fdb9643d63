"""Metadata filters: each operator, absent fields, types, and mistakes."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from ragx.errors import ConfigError
from ragx.langchain import RagxRetriever, RagxVectorStore
from ragx.langchain.filters import OPERATORS, metadata_condition
from ragx.retrieval.filters.values import Holds

CARS: dict[str, dict[str, Any]] = {
    "old": {"year": 1999, "fuel": "diesel", "tags": ["red", "van"]},
    "new": {"year": 2022, "fuel": "petrol", "tags": [], "electric": False},
    "newest": {"sold": "2024-01-31T10:00", "year": 2025.5, "electric": True, "size": {"doors": 5}},
    "text": {"year": "2022", "fuel": None},
    "bare": {},
}


def kept(filter: dict[str, Any]) -> set[str]:
    def passing(name: str, holds: Holds) -> np.ndarray:
        return np.array([name in car and holds(car[name]) for car in CARS.values()], bool)

    return {name for name, keep in zip(CARS, metadata_condition(filter).mask(passing), strict=True) if keep}


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, set(CARS)),
        ({"year": 2022}, {"new", "text"}),
        ({"year": {"$eq": 2022}}, {"new", "text"}),
        ({"year": {"$ne": 2022}}, set(CARS) - {"new", "text"}),
        ({"year": {"$gt": 2022}}, {"newest"}),
        ({"year": {"$gte": 2022}}, {"new", "newest", "text"}),
        ({"year": {"$lt": 2022}}, {"old"}),
        ({"year": {"$lte": 2022}}, {"old", "new", "text"}),
        ({"year": {"$gt": 1999, "$lt": 2025}}, {"new", "text"}),
        ({"year": {"$gte": "2"}}, {"old", "new", "newest", "text"}),
        ({"year": {"$in": [1999, "2022"]}}, {"old", "new", "text"}),
        ({"year": {"$in": []}}, set()),
        ({"year": {"$nin": [1999, "2022"]}}, {"newest", "bare"}),
        ({"fuel": {"$exists": True}}, {"old", "new", "text"}),
        ({"fuel": {"$exists": False}}, {"newest", "bare"}),
        ({"fuel": None}, {"text"}),
        ({"electric": True}, {"newest"}),
        ({"electric": {"$in": [0, 1]}}, set()),
        ({"electric": {"$gte": 0}}, set()),
        ({"tags": "van"}, {"old"}),
        ({"tags": {"$nin": ["van"]}}, set(CARS) - {"old"}),
        ({"tags": ["red", "van"]}, {"old"}),
        ({"tags": []}, {"new"}),
        ({"size": {"doors": 5}}, {"newest"}),
        ({"year": {"$not": {"$gt": 2000}}}, {"old", "bare"}),
        ({"$not": {"year": 2022}}, set(CARS) - {"new", "text"}),
        ({"$or": [{}, {"year": 1}]}, set(CARS)),
        ({"sold": {"$gte": date(2024, 1, 31)}}, {"newest"}),
        ({"$or": [{"year": 1999}, {"electric": True}]}, {"old", "newest"}),
        ({"$and": [{"year": {"$gt": 1900}}, {"$or": [{"fuel": "diesel"}, {"fuel": "petrol"}]}]}, {"old", "new"}),
        ({"fuel": "petrol", "$or": [{"year": 1999}, {"year": 2022}]}, {"new"}),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),  # sets have no order
)
def test_a_filter_keeps_what_its_operators_say(filter: dict[str, Any], expected: set[str]) -> None:
    assert kept(filter) == expected


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ({"year": {"$regex": "20"}}, "unknown filter operator"),
        ({"$nor": [{"year": 1}]}, "unknown filter operator"),
        ({"$not": {"year": {"$like": "2%"}}}, "unknown filter operator"),
        ({"year": {"$gt": 1, "most": 2}}, "unknown filter operator"),
        ({"$gt": 2020}, "below a field"),
        ({"year": {"$or": [{"$gt": 1}]}}, "must not be below a field"),
        ({"year": {"$in": "2022"}}, "list of values"),
        ({"year": {"$gt": None}}, "number, a string or a date"),
        ({"year": {"$exists": 1}}, "true or false"),
        ({"$or": []}, "list of filters"),
        ({"$and": {"year": 1}}, "list of filters"),
        ({"$not": 5}, "must be a mapping"),
        ({5: 5}, "must be strings"),
    ],
    ids=str,
)
def test_a_mistake_is_an_error_even_where_nothing_is_stored(
    filter: dict[Any, Any], message: str, tmp_path: Path
) -> None:
    store = RagxVectorStore(tmp_path / "index", DeterministicFakeEmbedding(size=8))
    with pytest.raises(ConfigError, match=message):
        store.similarity_search("pump", filter=filter)


def test_an_unknown_operator_is_told_those_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        metadata_condition({"year": {"$between": [1, 2]}})
    assert all(name in str(raised.value) for name in OPERATORS)


def test_every_search_of_a_store_filters(tmp_path: Path) -> None:
    store = RagxVectorStore(tmp_path / "index", DeterministicFakeEmbedding(size=8))
    store.add_documents([Document(name, id=name, metadata=metadata) for name, metadata in CARS.items()])
    filter = {"year": {"$gte": 2000}}
    searches = (
        store.similarity_search("car", k=5, filter=filter),
        store.max_marginal_relevance_search("car", k=5, filter=filter),
        [document for document, _ in store.similarity_search_with_relevance_scores("car", k=5, filter=filter)],
        store.as_retriever(search_kwargs={"filter": filter, "k": 5}).invoke("car"),
    )
    for found in searches:
        assert {document.id for document in found} == {"new", "newest", "text"}


def test_a_retriever_takes_expressions(tmp_path: Path) -> None:
    store = RagxVectorStore(tmp_path / "index", DeterministicFakeEmbedding(size=8))
    store.add_documents([Document(f"car {name}", id=name, metadata=metadata) for name, metadata in CARS.items()])
    retriever = RagxRetriever(index=str(tmp_path / "index"), method="bm25", where="year >= 2000")
    assert {document.id for document in retriever.invoke("car")} == {"new", "newest", "text"}
    assert {document.id for document in retriever.invoke("car", where="year < 2000")} == {"old"}
    with pytest.raises(ConfigError, match="no field 'yaer'"):
        retriever.invoke("car", where="yaer < 2000")
