"""`--effort` in the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.articles import BRIDGE, FIRST, LAST, QUESTION, build_articles
from tests.helpers.command import RunCommand
from tests.helpers.scripted_api import FINISHED, scripted_api


@pytest.fixture(scope="module")
def articles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_articles(tmp_path_factory.mktemp("index") / "articles")


def found(ragx: RunCommand, *arguments: object) -> list[str]:
    run = ragx(*arguments, "--method", "bm25", "-k", 6, "--json")
    assert run.code == 0, run.err
    return [hit["title"] for hit in json.loads(run.out)["hits"]]


def test_search_and_ask_with_medium_effort(ragx: RunCommand, articles: Path, tiny_decoder: Path) -> None:
    search = ("search", QUESTION, "--index", articles)
    ask = ("ask", QUESTION, "--index", articles, "--model", tiny_decoder, "--max-new-tokens", 2)
    for command in (search, ask):
        assert BRIDGE not in found(ragx, *command)
        assert BRIDGE in found(ragx, *command, "--effort", "medium")
    refused = ragx(*search, "--effort", "most")
    assert refused.code == 2
    assert "effort" in refused.err


def test_a_model_splits_the_question_for_high_effort(
    ragx: RunCommand, articles: Path, tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with scripted_api() as api:
        api.script = ["Who is the painter?\nWhich town is born of ferries?", FINISHED]
        high = ("--effort", "high", "--model", "openai:snow-1", "--base-url", api.url)
        assert {FIRST, LAST} <= {*found(ragx, "search", QUESTION, "--index", articles, *high)}
        assert len(api.requests) == 1
        assert {FIRST, LAST} <= {*found(ragx, "ask", QUESTION, "--index", articles, *high)}
    here = ("--effort", "high", "--model", tiny_decoder)  # whose random weights write nothing of use
    assert BRIDGE in found(ragx, "search", QUESTION, "--index", articles, *here)
