"""`ragx ask` with a model behind an API: each failure is one line and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import Response

from tests.helpers.command import QUESTION, Run, RunCommand
from tests.helpers.scripted_api import FINISHED, Api, refusal, scripted_api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with scripted_api() as running:
        yield running


def ask(ragx: RunCommand, index: Path, url: str, *options: str) -> Run:
    model = ["--model", "openai:snow-1", "--base-url", url]
    return ragx("ask", QUESTION, "--index", index, "--method", "bm25", *model, *options)


def test_an_answer_is_printed_with_its_sources(ragx: RunCommand, index: Path, api: Api) -> None:
    api.script = ["Fresh snow reflects ", "up to 90 percent.", FINISHED]
    done = ask(ragx, index, api.url)
    assert done.code == 0, done.err
    assert done.out.startswith("Fresh snow reflects up to 90 percent. [1]\n\nSources:\n[1] Snow")
    assert "sk-secret" not in done.out + done.err


@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        (refusal(401, "wrong key sk-secret"), 4, "refuses the key in OPENAI_API_KEY"),
        (refusal(404, "no such model"), 2, "has no model 'snow-1'"),
        (refusal(400, "too long", code="context_length_exceeded"), 2, "lower --prompt-passages"),
        (refusal(400, "sk-secret is not liked"), 4, "failed with status 400: … is not liked"),
    ],
)
def test_a_failure_is_one_line(
    ragx: RunCommand, index: Path, api: Api, response: Response, code: int, words: str
) -> None:
    api.refusals = [response]
    done = ask(ragx, index, api.url)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("ragx: ")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert "sk-secret" not in done.err


def test_a_server_that_is_silent_or_absent(ragx: RunCommand, index: Path, api: Api) -> None:
    api.script = [60.0]
    done = ask(ragx, index, api.url, "--timeout", "0.5")
    assert (done.code, "silent for 0.5 s: raise --timeout" in done.err) == (4, True)
    done = ask(ragx, index, "http://127.0.0.1:9/v1")
    assert (done.code, "no server answers at http://127.0.0.1:9/v1" in done.err) == (4, True)


def test_an_address_needs_a_model_of_an_api(ragx: RunCommand, index: Path) -> None:
    done = ragx("ask", QUESTION, "--index", index, "--base-url", "http://127.0.0.1:9/v1")
    assert done.code == 2
    assert "base_url goes with a model such as openai:NAME" in done.err
    done = ragx("ask", QUESTION, "--index", index, "--model", "openai:")
    assert done.code == 2
    assert "'openai:' names no model" in done.err
