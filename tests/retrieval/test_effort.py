"""More effort finds passages that the question does not name; less costs one search."""

from __future__ import annotations

import pytest

from ragx.errors import EndpointError
from ragx.index import Index
from ragx.retrieval import Retriever, search_with_effort
from ragx.retrieval.effort import follow_up
from ragx.types import Passage
from tests.helpers.articles import ARTICLES, BRIDGE, FIRST, LAST, QUESTION, build_articles, titles
from tests.helpers.toy_embedders import WordEmbedder


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    return Retriever(Index.open(build_articles(tmp_path_factory.mktemp("index") / "articles")), WordEmbedder())


def test_low_is_one_search(retriever: Retriever) -> None:
    for queries in ([QUESTION], [QUESTION, f"Paintings\n{QUESTION}"]):
        assert search_with_effort(retriever, queries, 9) == retriever.search_all(queries, 9)


def test_medium_finds_what_the_first_hits_name(retriever: Retriever) -> None:
    alone = retriever.search(QUESTION, 6, "bm25")
    assert titles(alone)[0] == FIRST
    assert BRIDGE not in titles(alone)
    hits = search_with_effort(retriever, [QUESTION], 6, effort="medium", method="bm25")
    assert titles(hits)[:3] == titles(alone)[:3]
    assert BRIDGE in titles(hits)
    assert len(hits) == len({*titles(hits)}) == 6
    assert [hit.score for hit in hits] == [1 / (60 + place) for place in range(1, 7)]


def test_the_parts_of_a_question_are_searched_and_followed(retriever: Retriever) -> None:
    parts = ["Who painted Winter Harbour?", "What is Mossby known for?"]
    hits = search_with_effort(retriever, [QUESTION], 8, effort="high", method="bm25", split=lambda _: parts)
    assert {FIRST, BRIDGE, LAST} <= {*titles(hits)}
    assert hits.notes == []
    undivided = search_with_effort(retriever, [QUESTION], 8, effort="high", method="bm25", split=lambda _: [])
    assert undivided == search_with_effort(retriever, [QUESTION], 8, effort="medium", method="bm25")


def test_a_question_that_cannot_be_split_is_searched_with_less_effort(retriever: Retriever) -> None:
    def split(question: str) -> list[str]:
        raise EndpointError("the API does not answer\nat all")

    hits = search_with_effort(retriever, [QUESTION], 6, effort="high", split=split)
    assert hits == search_with_effort(retriever, [QUESTION], 6, effort="medium")
    assert hits.notes == ["the question was not split: the API does not answer"]


@pytest.mark.parametrize("effort", ["medium", "high"])
def test_a_filter_holds_for_every_search(retriever: Retriever, effort: str) -> None:
    selected = retriever.select(f'title != "{BRIDGE}"')
    hits = search_with_effort(
        retriever, [QUESTION], 40, effort=effort, selected=selected, split=lambda _: ["Who is Ida Brandt?"]
    )
    assert BRIDGE not in titles(hits)
    assert len(hits) == len(ARTICLES) - 1


def test_nothing_found_is_nothing_to_follow(retriever: Retriever) -> None:
    assert search_with_effort(retriever, ["zzz"], 5, effort="medium", method="bm25") == []


@pytest.mark.parametrize(
    ("question", "title", "text", "expected"),
    [
        ("Who wrote Nils?", "Nils", "Nils is by Selma Lagerlöf (1906).", "who wrote Selma Lagerlöf 1906"),
        ("Who?", "", "The Bank of the North in München; Ёж и лес", "who The Bank of the North in München Ёж"),
        ("And?", "Notes", "[a](b/c.md#x), [[Old Plan|d]], [web](https://a.b/c)", "and Notes Old Plan b/c"),
        ("雪?", "", "雪は白い", "雪 雪は白い"),
        ("", "", "no names at all", ""),
    ],
)
def test_what_is_searched_next(question: str, title: str, text: str, expected: str) -> None:
    found = follow_up(question, Passage("a#0", "a", title, text, 0, 0, len(text), ""))
    assert found == expected
