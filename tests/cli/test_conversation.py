"""`ragx ask` without a question, and with one from standard input."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ragx.cli.conversation import converse
from ragx.types import Answer, Message, Timings
from tests.helpers.chat_page import SENTENCE
from tests.helpers.command import QUESTION, RunCommand
from tests.helpers.scripted_api import FINISHED, Api, refusal, scripted_api
from tests.helpers.terminal import CTRL_C, CTRL_D, Terminal, on_terminal
from tests.helpers.tiny import save_reciting_decoder

PROMPT = "\n> "
ENDED = "tokens/s)\n> "


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with scripted_api() as running:
        running.script = ["Fresh snow reflects ", "up to 90 percent.", FINISHED]
        yield running


@pytest.fixture
def reciting(tiny_decoder: Path, tmp_path: Path) -> Path:
    save_reciting_decoder(tiny_decoder, tmp_path / "reciting", SENTENCE, ends=True)
    return tmp_path / "reciting"


def conversation(index: Path, api: Api) -> AbstractContextManager[Terminal]:
    model = ("--model", "openai:snow-1", "--base-url", api.url)
    return on_terminal("ask", "--index", index, "--method", "bm25", *model)


@pytest.mark.slow
def test_ctrl_d_leaves(index: Path, api: Api) -> None:
    with conversation(index, api) as terminal:
        assert "Ctrl-D leaves" in terminal.until(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
    assert terminal.unread == "\n"
    assert api.requests == []


@pytest.mark.slow
def test_a_follow_up_is_answered_with_the_turns_before_it(index: Path, api: Api) -> None:
    with conversation(index, api) as terminal:
        terminal.until(PROMPT)
        terminal.type("What of snow?\n")
        assert "Fresh snow reflects up to 90 percent. [1]\n\nSources:\n[1] Snow" in terminal.until(ENDED)
        terminal.type("And in winter?\n")
        terminal.until(ENDED)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
    first, second = ([message["content"] for message in request["messages"]] for request in api.requests)
    assert "What of snow?" in first[-1]
    assert any("What of snow?" in content for content in second[:-2])
    assert second[-2] == "Fresh snow reflects up to 90 percent."
    assert "And in winter?" in second[-1]


@pytest.mark.slow
def test_a_number_shows_the_whole_passage(index: Path, notes: Path, api: Api) -> None:
    with conversation(index, api) as terminal:
        terminal.until(PROMPT)
        terminal.type("1\n")
        assert "no source 1: the last answer has none" in terminal.until(PROMPT)
        terminal.type("What of snow?\n")
        terminal.until(ENDED)
        terminal.type("1\n")
        shown = terminal.until(PROMPT)
        assert f"Snow\n{notes}/snow.md, characters 0-" in shown
        assert "\n\n# Snow\n\nFresh snow reflects up to 90 percent of the sunlight that reaches it." in shown
        terminal.type("7\n")
        assert "no source 7: the last answer has 1\n" in terminal.until(PROMPT)
    assert len(api.requests) == 1


@pytest.mark.slow
def test_ctrl_c_stops_an_answer(index: Path, api: Api) -> None:
    api.script = ["Much ", 600.0]
    with conversation(index, api) as terminal:
        terminal.until(PROMPT)
        terminal.type("What of snow?\n")
        terminal.until("Much")
        terminal.type(CTRL_C)
        assert "\nstopped\n" in terminal.until(PROMPT)
        api.script = ["Little.", FINISHED]
        terminal.type("And of soil?\n")
        assert "Little." in terminal.until(ENDED)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
    assert [message["content"] for message in api.requests[1]["messages"]][-2] == "Much"


def test_ctrl_c_at_the_prompt_clears_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str | type[BaseException]] = [KeyboardInterrupt, "", "What of snow?", KeyboardInterrupt, EOFError]
    asked = []

    def typing(_: str) -> str:
        event = typed.pop(0)
        if isinstance(event, str):
            return event
        raise event

    def answer(question: str, history: Sequence[Message], cancel: threading.Event) -> Answer:
        asked.append(question)
        return Answer("Much.", [], [], Timings(0.0, 0.0, 0.0, 0.0, 0.0))

    monkeypatch.setattr("builtins.input", typing)
    converse(answer)
    assert (asked, typed) == (["What of snow?"], [])


@pytest.mark.slow
def test_an_error_is_one_line_and_the_conversation_goes_on(index: Path, api: Api) -> None:
    api.refusals = [refusal(400, "no snow today")]
    with conversation(index, api) as terminal:
        terminal.until(PROMPT)
        terminal.type("What of snow?\n")
        assert "\nragx: " in terminal.until("no snow today")
        terminal.until(PROMPT)
        terminal.type("And of soil?\n")
        assert "up to 90 percent." in terminal.until(ENDED)
    assert "What of snow?" not in str(api.requests[-1])


@pytest.mark.slow
def test_a_conversation_about_a_document(notes: Path, reciting: Path, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "papers" / "snow.txt").write_text(SENTENCE)
    with on_terminal("ask", "--document", tmp_path / "papers", "--model", reciting) as terminal:
        assert "1 left out" in terminal.until(PROMPT)
        for question in ("What of snow?", "And of soil?"):
            terminal.type(f"{question}\n")
            assert f"{SENTENCE.strip()} [1]\n\nSources:\n[1] " in terminal.until(ENDED)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0


@pytest.mark.slow
def test_a_conversation_without_an_index(reciting: Path) -> None:
    with on_terminal("ask", "--no-index", "--model", reciting) as terminal:
        terminal.until(PROMPT)
        terminal.type("What of snow?\n")
        assert SENTENCE.strip() in terminal.until(ENDED)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0


@pytest.mark.slow
def test_a_conversation_is_not_printed_as_json() -> None:
    with on_terminal("ask", "--json", "--model", "no-such-model") as terminal:
        assert terminal.ends() == 2
    assert terminal.unread.startswith("ragx: json: a conversation is not printed as JSON")
    assert terminal.unread.count("\n") == 1


def test_without_a_terminal_the_missing_question_is_one_line(ragx: RunCommand) -> None:
    run = ragx("ask", "--model", "no-such-model")
    assert (run.code, run.out) == (2, "")
    assert "ragx ask -" in run.err
    assert run.err.count("\n") == 1


def test_a_dash_reads_the_question_from_standard_input(
    ragx: RunCommand, index: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--index", index, "--method", "bm25", "--model", "openai:snow-1", "--base-url", api.url)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n"))
    piped, given = (ragx("ask", question, *command) for question in ("-", QUESTION))
    assert piped.code == 0, piped.err
    assert piped.out == given.out
    assert api.requests[0] == api.requests[1]


def test_nothing_on_standard_input_is_one_line(ragx: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    run = ragx("ask", "-", "--model", "no-such-model")
    assert (run.code, run.out, run.err) == (2, "", "ragx: the question is empty\n")


@pytest.mark.slow
def test_bytes_on_standard_input_that_are_no_text_are_a_question(index: Path, api: Api) -> None:
    command = [sys.executable, "-m", "ragx", "ask", "-", "--index", index, "--method", "bm25"]
    model = ["--model", "openai:snow-1", "--base-url", api.url]
    done = subprocess.run([*command, *model], input=b"snow \xff?", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "snow \ufffd?" in api.requests[0]["messages"][-1]["content"]
