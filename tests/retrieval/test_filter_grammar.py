"""The language of filters: what each expression keeps, and mistakes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragx.errors import ConfigError
from ragx.retrieval.filters.grammar import parse_filter
from ragx.retrieval.filters.values import Holds

CARS: dict[str, dict[str, Any]] = {
    "old": {"year": 1999, "fuel": "diesel", "tags": ["red", "van"], "sold": "2024-01-31T10:00:00+00:00"},
    "new": {"year": 2022, "fuel": "petrol", "tags": [], "electric": False, "sold": "2024-02-01"},
    "newest": {"year": 2025.5, "electric": True, "price per km": 3, "sold": "2023-12-31T23:30:00-01:00"},
    "table": {"year": "2022", "electric": "TRUE", "code": "007", "sold": "soon"},
    "bare": {"fuel": None},
}


def kept(where: str) -> set[str]:
    def passing(name: str, holds: Holds) -> np.ndarray:
        return np.array([name in car and holds(car[name]) for car in CARS.values()], bool)

    return {name for name, keep in zip(CARS, parse_filter(where).mask(passing), strict=True) if keep}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year == 2022", {"new", "table"}),
        ("year = 2022", {"new", "table"}),
        ("year != 2022", {"old", "newest", "bare"}),
        ('year == "2022"', {"new", "table"}),
        ("year>2000", {"new", "newest", "table"}),
        ("year >= 2022 and year < 2025", {"new", "table"}),
        ("year <= 1999.0", {"old"}),
        ("year > -1e3", {"old", "new", "newest", "table"}),
        ("code == 7", {"table"}),
        ('code == "7"', set()),
        ('fuel == "diesel"', {"old"}),
        ("fuel == 'diesel'", {"old"}),
        ('fuel > "e"', {"new"}),
        ("fuel == null", {"newest", "table", "bare"}),
        ("fuel != null", {"old", "new"}),
        ('fuel in ["diesel", "petrol",]', {"old", "new"}),
        ('fuel not in ("diesel",)', {"new", "newest", "table", "bare"}),
        ('fuel like "?e*"', {"new"}),
        ('fuel not like "*e*"', {"newest", "table", "bare"}),
        ('"ese" in fuel', {"old"}),
        ('"ese" not in fuel', {"new", "newest", "table", "bare"}),
        ('"van" in tags', {"old"}),
        ('"va" in tags', set()),
        ('tags == "van"', {"old"}),
        ('tags like "r*"', {"old"}),
        ("electric == true", {"newest", "table"}),
        ("electric == false", {"new"}),
        ("electric == 1", set()),
        ("`price per km` < 5", {"newest"}),
        ("sold == 2024-01-31", {"old"}),
        ("sold == 2024-01", {"old", "newest"}),
        ("sold == 2024", {"old", "new", "newest"}),
        ("sold <= 2024-01-31", {"old", "newest"}),
        ("sold < 2024-01-31", {"newest"}),
        ("sold > 2024-01-31", {"new"}),
        ('sold > "2024-01-31"', {"new"}),
        ("sold >= 2024-01-31T10:00", {"old", "new"}),
        ("sold == 2024-01-01T01:30+01:00", {"newest"}),
        ("sold in [2024-02, 2024-03]", {"new"}),
        ("not year == 2022", {"old", "newest", "bare"}),
        ("not not year == 2022", {"new", "table"}),
        ("year == 1999 or year == 2022 and electric == false", {"old", "new"}),
        ("(year == 1999 or year == 2022) and electric == false", {"new"}),
        ("NOT (year == 1999 OR year == 2022)", {"newest", "bare"}),
        (" year\n==\t1999 ", {"old"}),
    ],
)
def test_an_expression_keeps_what_it_says(where: str, expected: set[str]) -> None:
    assert kept(where) == expected


def test_names_may_begin_with_words_of_the_language() -> None:
    assert parse_filter("order > 1 and not-null = 2 or in.x = 3 or og:title like 'a'").fields == (
        "order", "not-null", "in.x", "og:title",
    )  # fmt: skip
    assert parse_filter("`in` = 1").fields == ("in",)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "incomplete"),
        ("year >", "incomplete"),
        ("(year > 1", "incomplete"),
        ("year", "incomplete"),
        ("year > abc", "'abc' at character 8"),
        ("year > 2020 && a = 1", "write and"),
        ("year > 2020 || a = 1", "write or"),
        ('fuel == "diesel', "quote is not closed"),
        ("fuel in []", "']' at character 10"),
        ("fuel =~ '(a+)+$'", "cannot read '~'"),
        ("fuel like 5", "cannot read '5'"),
        ("sold > 2024-02-31", "2024-02-31 is not a date"),
        ("electric > true", "no order"),
        ("year > null", "cannot read 'null'"),
        ("year == 2020-1", "cannot read '2020-1'"),
        ("__import__('os').system('x')", "cannot read"),
        ("year == 1\0", "cannot read"),
        ("a = 1 or " * 2000 + "a = 1", "at most 10,000 characters"),
        ("not " * 1000 + "a = 1", "inside one another"),
        ("(a = 1 and (b = 1 or " * 400 + "a = 1" + "))" * 400, "inside one another"),
        ("(" * 9000, "incomplete"),
    ],
    ids=lambda text: text[:20],
)
def test_a_mistake_is_one_clear_line(where: str, message: str) -> None:
    with pytest.raises(ConfigError, match="where: ") as raised:
        parse_filter(where)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


PIECES = [*"ab=<>!\"'()[],`.\\&| 12-:T", "in ", "not ", "and ", "null"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_an_expression_or_an_error(where: str) -> None:
    with suppress(ConfigError):
        parse_filter(where)


def test_many_parentheses_are_no_depth() -> None:
    assert parse_filter("(" * 4000 + "a = 1" + ")" * 4000).fields == ("a",)


def test_a_hostile_glob_ends_soon() -> None:
    parse_filter(f"a like '{'*a' * 2000}'").mask(lambda _, holds: np.array([holds("a" * 1000 + "b")]))
