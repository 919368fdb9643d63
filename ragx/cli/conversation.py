"""A conversation in the terminal: `ragx ask` without a question."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

from ragx.cli import render
from ragx.errors import RagxError
from ragx.types import Answer, Message, Passage
from ragx.util.terminal import notice, report_error

Ask = Callable[[str, Sequence[Message], threading.Event], Answer]
"""Answers a question that follows earlier messages, and prints the answer; setting the event ends it early."""


def converse(ask: Ask) -> None:
    """Answer questions, each with those before it, until the end of input.

    The number of a source of the last answer shows its whole passage. An error is one line, and the conversation goes
    on. Ctrl-C clears the line, or stops the answer; pressed again, it does not wait for the answer to stop.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives `input` a history and editing
    notice("Ask a question. A number shows that source, Ctrl-C stops an answer, Ctrl-D leaves.")
    history: list[Message] = []
    shown: dict[str, Passage] = {}
    while (line := _typed()) is not None:
        try:
            if line.isdecimal():
                _show_source(line, shown)
            elif line:
                with _stopped_by_ctrl_c() as cancel:
                    answer = ask(line, history, cancel)
                if answer.finish == "cancelled":
                    notice("stopped")
                if answer.text:
                    history += [Message("user", line), Message("assistant", answer.text)]
                shown = _cited(answer)
        except KeyboardInterrupt:
            print()
        except RagxError as error:
            report_error(f"ragx: {error}")


def _typed() -> str | None:
    """The next line; empty if Ctrl-C cleared it, None at the end of input."""
    try:
        return input("> ").strip()
    except (KeyboardInterrupt, EOFError) as end:
        print()
        return None if isinstance(end, EOFError) else ""


@contextlib.contextmanager
def _stopped_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the next one raises KeyboardInterrupt."""
    cancel = threading.Event()

    def stop(*_: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def _cited(answer: Answer) -> dict[str, Passage]:
    passages = {hit.passage.id: hit.passage for hit in answer.hits}
    return {str(citation.number): passages[citation.passage_id] for citation in answer.citations}


def _show_source(number: str, shown: dict[str, Passage]) -> None:
    if number in shown:
        print(render.whole_passage(shown[number]))
    else:
        report_error(f"no source {number}: the last answer has {', '.join(shown) or 'none'}")
