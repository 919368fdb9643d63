"""The parts of a question are what a model writes, without marks, repetitions and what has nothing to do with it."""

from __future__ import annotations

import pytest

from ragx.config import ModelOptions
from ragx.errors import ConfigError, EndpointError
from ragx.reader.loading import open_readers
from ragx.reader.splitting import split_question
from tests.helpers.scripted_api import FINISHED, refusal, scripted_api

QUESTION = "Where was the painter of Winter Harbour born?"
PARTS = ["Who painted Winter Harbour?", "Where was the painter born?"]


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("Who painted Winter Harbour?\nWhere was the painter born?", PARTS),
        ("1. Who painted Winter Harbour?\n- Where was the painter born?\n", PARTS),
        (f"{QUESTION}\n\nWho painted Winter Harbour?\n" * 3, ["Who painted Winter Harbour?"]),
        ("Sure, here they are:\nWho is the author of The Salt Road?\nWinter Harbour.", []),
        ("\n".join(f"Who painted Harbour {n}?" for n in range(9)), [f"Who painted Harbour {n}?" for n in range(4)]),
        ("", []),
    ],
)  # fmt: skip
def test_parts(written: str, parts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with scripted_api() as api:
        api.script = [*([written] if written else []), FINISHED]
        readers, _ = open_readers(ModelOptions(model="openai:snow-1", base_url=api.url))
        assert split_question(readers, QUESTION) == parts
        (sent,) = api.requests
        readers["full"].close()
    assert QUESTION in sent["messages"][-1]["content"]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant"] * 2 + ["user"]


def test_an_api_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with scripted_api() as api:
        api.refusals = [refusal(400, "no such model")]
        readers, _ = open_readers(ModelOptions(model="openai:snow-1", base_url=api.url))
        with pytest.raises(EndpointError, match="no such model"):
            split_question(readers, QUESTION)
        readers["full"].close()


def test_without_a_model_there_is_nothing_to_split_with() -> None:
    with pytest.raises(ConfigError):
        split_question({}, QUESTION)
