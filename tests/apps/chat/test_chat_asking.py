"""Many visitors at once: their answers grow together, and nobody's ends or fails by another's."""

from __future__ import annotations

import copy
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ragx_apps.chat import asking as asking_module
from ragx_apps.chat import markup
from ragx_apps.chat.asking import Asking
from ragx_apps.chat.conversation import Reply, load_turns
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.page import BOTH, Page

from ragx.cepe.store import PassageStore
from ragx.config import SamplingParams
from ragx.errors import ConfigError
from ragx.rag import RAG
from ragx.types import Answer
from tests.helpers.chat_page import SENTENCE

ENDLESS = 7000
"""Tokens: an answer that takes longer than any test."""
Stream = Iterator[str | Answer | None]


def own(rag: RAG) -> RAG:
    """The same models, for an `Asking` of one's own."""
    return RAG(rag.retriever, {name: copy.copy(reader) for name, reader in rag.readers.items()})


def ask(asking: Asking, rag: RAG, tokens: int, cancel: threading.Event | None = None) -> Stream:
    return asking.stream(
        rag,
        "snow?",
        cancel or threading.Event(),
        k=2,
        prompt_passages=1,
        sampling=SamplingParams(max_new_tokens=tokens),
    )


def text(stream: Stream) -> str:
    """The next piece of an answer."""
    return next(event for event in stream if isinstance(event, str) and event)


def whole(stream: Stream) -> Answer:
    """An answer to its end, of which the pieces are the text."""
    *pieces, answer = stream
    assert isinstance(answer, Answer)
    assert "".join(str(piece or "") for piece in pieces).strip() == answer.text
    return answer


def is_idle(asking: Asking, within: float = 1) -> bool:
    assert asking.decoder is not None
    deadline = time.monotonic() + within
    while (asking.decoder.running or asking.decoder.waiting) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not asking.decoder.running


def test_visitors_are_answered_at_once_and_one_stops_alone(asking: Asking, chat_rag: RAG) -> None:
    stopped = threading.Event()
    with closing(ask(asking, chat_rag, ENDLESS, stopped)) as first, closing(ask(asking, chat_rag, ENDLESS)) as second:
        text(first)
        text(second)
        assert asking.decoder is not None
        assert asking.decoder.running == 2
        assert whole(ask(asking, chat_rag, 8)).finish == "length"
        assert asking.decoder.running == 2
        stopped.set()
        before = time.monotonic()
        *_, answer = first
        assert time.monotonic() - before < 1
        assert isinstance(answer, Answer)
        assert answer.finish == "cancelled"
        assert answer.text.startswith(SENTENCE.strip())
        assert asking.decoder.running == 1
        text(second)
    assert is_idle(asking), "an answer that nobody reads any more has ended"


def test_what_goes_wrong_with_one_answer_touches_no_other(asking: Asking, chat_rag: RAG) -> None:
    with closing(ask(asking, chat_rag, ENDLESS)) as other:
        text(other)
        with pytest.raises(ConfigError, match="too long"):
            list(asking.stream(chat_rag, "snow " * 9000, threading.Event()))
        with pytest.raises(ConfigError, match="the question is empty"):
            list(asking.stream(chat_rag, " ", threading.Event()))
        assert text(other)


def test_encodings_are_shared(chat_rag: RAG, tmp_path: Path) -> None:
    rag = own(chat_rag)
    reader: Any = rag.readers["cepe"]
    width = reader.model.config.encoder_config.hidden_size
    reader.store = PassageStore(tmp_path, reader.model.encoder_fingerprint(), width, max_bytes=10**8)
    with closing(Asking(rag)) as asking, ThreadPoolExecutor(3) as visitors:
        answers = list(visitors.map(lambda _: whole(ask(asking, rag, 4)), range(3)))
    assert len({answer.text for answer in answers}) == 1
    assert (reader.store.stats.misses, reader.store.stats.hits) == (2, 4)


@pytest.fixture(params=["a batch of one", "a sliding window"])
def one_at_a_time(
    request: pytest.FixtureRequest, chat_rag: RAG, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Asking, RAG]]:
    """Answers one question, the others wait: that is what room there is, or the decoder cannot do more."""
    rag = own(chat_rag)
    if request.param == "a batch of one":
        monkeypatch.setattr(asking_module, "AT_ONCE", 1)
    else:
        monkeypatch.setattr(rag.readers["cepe"].model.config, "sliding_window", 64, raising=False)
    with closing(Asking(rag)) as asking:
        assert (asking.decoder is None) == (request.param == "a sliding window")
        yield asking, rag


def test_whoever_waits_is_told_and_may_leave(one_at_a_time: tuple[Asking, RAG]) -> None:
    leaves = threading.Event()
    with closing(ask(*one_at_a_time, ENDLESS)) as first:
        text(first)
        waiting, leaving = ask(*one_at_a_time, 8), ask(*one_at_a_time, 8, leaves)
        assert next(waiting) is None
        assert next(leaving) is None
        leaves.set()
        assert list(leaving) == []
        assert next(waiting) is None
    assert whole(waiting).finish == "length"


def test_closing_ends_every_answer(one_at_a_time: tuple[Asking, RAG]) -> None:
    asking, _ = one_at_a_time
    under_way, waiting = (ask(*one_at_a_time, ENDLESS) for _ in range(2))
    text(under_way)
    assert next(waiting) is None
    asking.close()
    *_, answer = under_way
    assert isinstance(answer, Answer)
    assert answer.finish == "cancelled"
    assert list(waiting) == []
    assert list(ask(*one_at_a_time, 8)) == []


def test_indexes_are_opened_and_closed_while_others_read(
    asking: Asking, chat_rag: RAG, chat_index: Path, tmp_path: Path
) -> None:
    indexes = Indexes(chat_rag, chat_index)
    folder = tmp_path / "index"
    shutil.copytree(chat_index, folder)
    finished = threading.Event()

    def reopen() -> None:
        while not finished.is_set():
            indexes.close(folder)
            indexes.open_folder(folder)

    with ThreadPoolExecutor(4) as threads:
        reopening = threads.submit(reopen)
        answers = list(threads.map(lambda _: whole(ask(asking, indexes.open_folder(folder), 8)), range(6)))
        finished.set()
        reopening.result()
    assert len({answer.text for answer in answers}) == 1
    assert all(len(answer.hits) == 2 for answer in answers)


def settings(index: Path, *, reader: str = "cepe", tokens: int = 8) -> tuple[Any, ...]:
    """What the page's controls say."""
    return (index.name, 2.0, 1.0, "hybrid", reader, float(tokens), 0.0)


@pytest.fixture
def page(asking: Asking, chat_rag: RAG, chat_index: Path, tmp_path: Path) -> Page:
    return Page(Indexes(chat_rag, chat_index), asking, tmp_path)


def visitor(name: str) -> Any:
    return SimpleNamespace(session_hash=name)


@pytest.fixture
def own_indexes(chat_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The indexes `default` and `private` in ragx's own folder."""
    for name in ("private", "default"):
        shutil.copytree(chat_index, tmp_path / "home" / "indexes" / name)
    monkeypatch.setenv("RAGX_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAGX_INDEX", raising=False)


@pytest.mark.usefixtures("own_indexes")
def test_an_index_that_was_named_is_the_only_one(page: Page, chat_index: Path) -> None:
    assert page.choices(visitor("a page")) == [chat_index.name]
    for name in ("private", "default"):
        with pytest.raises(ConfigError, match=f"there is no index '{name}': choose one of {chat_index.name}"):
            page.indexes.open(name)


@pytest.mark.usefixtures("own_indexes")
def test_without_a_named_index_all_of_ragxs_own_may_be_asked(chat_rag: RAG, asking: Asking, tmp_path: Path) -> None:
    page = Page(Indexes(chat_rag, None), asking, tmp_path)
    assert page.choices(visitor("a page")) == ["default", "private"]
    assert page.indexes.open("private").retriever.index.folder == tmp_path / "home" / "indexes" / "private"


def kept_replies(shown: tuple[Any, ...]) -> list[Reply]:
    """Those of the only turn that is kept when an answer is over."""
    (turn,) = load_turns(shown[2])
    return turn.replies


def test_a_page_has_one_answer_at_a_time(page: Page, chat_index: Path) -> None:
    first = page.ask(visitor("a page"), "What reflects light?", [], *settings(chat_index))
    next(first)
    second = page.ask(visitor("a page"), "And what else?", [], *settings(chat_index))
    assert len(list(second)) == 1, "nothing is shown of a second one"
    *_, last = first
    assert [turn.question for turn in load_turns(last[2])] == ["What reflects light?"]
    assert len(list(page.ask(visitor("a page"), "And what else?", last[2], *settings(chat_index)))) > 2


def test_two_pages_are_answered_at_once_and_stop_is_each_ones_own(page: Page, chat_index: Path) -> None:
    endless = settings(chat_index, tokens=1024)
    first, second = (page.ask(visitor(name), "Snow?", [], *endless) for name in ("first", "second"))
    for shown in (first, second):
        assert any("sunlight" in str(html) for _, html, _, _ in shown)
    page.stop(visitor("first"))
    *_, last = first
    (reply,) = kept_replies(last)
    assert reply.finished
    assert reply.stopped
    assert reply.text.startswith(SENTENCE.strip())
    *_, last = second
    (reply,) = kept_replies(last)
    assert not reply.stopped


def test_two_readers_answer_one_after_another_and_both_to_their_end(page: Page, chat_index: Path) -> None:
    *_, last = page.ask(visitor("a page"), "Snow?", [], *settings(chat_index, reader=BOTH))
    replies = kept_replies(last)
    assert [reply.reader for reply in replies] == ["cepe", "full"]
    assert replies[0].text == replies[1].text != ""
    assert not any(reply.stopped or reply.error for reply in replies)


def test_stop_ends_both_readers(page: Page, chat_index: Path) -> None:
    shown = page.ask(visitor("a page"), "Snow?", [], *settings(chat_index, reader=BOTH, tokens=1024))
    assert any("sunlight" in str(html) for _, html, _, _ in shown)
    page.stop(visitor("a page"))
    *_, last = shown
    first, second = kept_replies(last)
    assert first.stopped
    assert (second.stopped, second.text) == (True, "")


def test_the_page_says_that_a_question_waits(
    one_at_a_time: tuple[Asking, RAG], chat_index: Path, tmp_path: Path
) -> None:
    asking, rag = one_at_a_time
    page = Page(Indexes(rag, chat_index), asking, tmp_path)
    with closing(ask(asking, rag, ENDLESS)) as other:
        text(other)
        shown = page.ask(visitor("a page"), "Snow?", [], *settings(chat_index))
        assert "Searching" in next(shown)[1]
        assert markup.WAITING in next(shown)[1]
    *_, last = shown
    (reply,) = kept_replies(last)
    assert reply.finished
    assert SENTENCE.strip().startswith(reply.text)


def test_a_visitor_who_leaves_while_waiting_is_not_answered(
    one_at_a_time: tuple[Asking, RAG], chat_index: Path, tmp_path: Path
) -> None:
    asking, rag = one_at_a_time
    page = Page(Indexes(rag, chat_index), asking, tmp_path)
    with closing(ask(asking, rag, ENDLESS)) as other:
        text(other)
        shown = page.ask(visitor("a page"), "Snow?", [], *settings(chat_index))
        assert any(markup.WAITING in str(html) for _, html, _, _ in shown)
        page.leave(visitor("a page"))
        *_, last = shown
        (reply,) = kept_replies(last)
        assert (reply.stopped, reply.text) == (True, "")
