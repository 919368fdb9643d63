"""After a long wait for the first token, the command line names what would shorten it."""

from __future__ import annotations

import pytest

from ragx.cli import render
from ragx.types import Answer, Timings


@pytest.mark.parametrize(
    ("retrieve", "encode", "first_token", "named"),
    [
        (20.0, 1.0, 22.0, "--rerank none"),
        (1.0, 30.0, 40.0, "-k"),
        (1.0, 2.0, 40.0, "--prompt-passages"),
    ],
)
def test_the_option_of_the_slowest_part_is_named(
    retrieve: float, encode: float, first_token: float, named: str
) -> None:
    times = Timings(retrieve, encode, first_token, total=first_token + 1, tokens_per_second=9.0)
    assert named in render.faster(Answer("Snow is white.", [], [], times), searched=True)


def test_nothing_is_said_after_a_short_wait() -> None:
    assert render.faster(Answer("Snow is white.", [], [], Timings(0.5, 0.1, 2.0, 3.0, 20.0)), searched=True) == ""


def test_without_a_search_none_of_its_options_is_named() -> None:
    times = Timings(0.5, 70.0, 90.0, total=95.0, tokens_per_second=9.0)
    said = render.faster(Answer("Snow is white.", [], [], times), searched=False)
    assert "70 s" in said
    assert "-k" not in said
