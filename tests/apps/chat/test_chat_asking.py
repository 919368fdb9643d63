"""Many visitors at once: answers grow together and do not affect one another."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ragx_apps.chat import markup
from ragx_apps.chat.chats import load_chats
from ragx_apps.chat.conversation import Reply, Turn
from ragx_apps.chat.handlers import Handlers, View
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.settings import BOTH
from ragx_apps.queue import Event, QuestionQueue, QueueFullError, Waiting

from ragx.cepe.store import PassageStore
from ragx.config import SamplingParams
from ragx.engine.backend import decoder_of
from ragx.engine.batching import BatchDecoder
from ragx.errors import ConfigError
from ragx.index import collect_garbage
from ragx.indexing.delete import delete
from ragx.rag import RAG
from ragx.retrieval import open_index
from ragx.types import Answer
from tests.helpers.chat_page import SENTENCE
from tests.helpers.tiny import with_config
from tests.helpers.tiny_cross_encoders import LengthReranker
from tests.helpers.waiting import eventually

ENDLESS = 7000
"""Tokens: an answer that takes longer than any test."""
Stream = Generator[Event, None, None]


def own(rag: RAG) -> RAG:
    """The same models, for another queue."""
    return RAG(rag.retriever, {name: copy.copy(reader) for name, reader in rag.readers.items()})


def ask(queue: QuestionQueue, rag: RAG, tokens: int, cancel: threading.Event | None = None) -> Stream:
    answer = partial(rag.ask, "snow?", k=2, prompt_passages=1, sampling=SamplingParams(max_new_tokens=tokens))
    return queue.stream(answer, cancel or threading.Event())


def text(stream: Stream) -> str:
    """The next piece of an answer."""
    return next(event for event in stream if isinstance(event, str) and event)


def whole(stream: Stream) -> Answer:
    """A whole answer; its pieces are its text."""
    *pieces, answer = stream
    assert isinstance(answer, Answer)
    assert "".join(piece for piece in pieces if isinstance(piece, str)).strip() == answer.text
    return answer


def is_idle(queue: QuestionQueue) -> bool:
    return eventually(lambda: not queue.admitted)


def test_visitors_are_answered_at_once_and_stop_separately(queue: QuestionQueue, chat_rag: RAG) -> None:
    stopped = threading.Event()
    with closing(ask(queue, chat_rag, ENDLESS, stopped)) as first, closing(ask(queue, chat_rag, ENDLESS)) as second:
        text(first)
        text(second)
        assert queue.running == 2
        assert whole(ask(queue, chat_rag, 8)).finish == "length"
        assert queue.running == 2
        stopped.set()
        *_, answer = first
        assert isinstance(answer, Answer)
        assert answer.finish == "cancelled"
        assert answer.text.startswith(SENTENCE.strip())
        assert eventually(lambda: queue.running == 1)
        text(second)
    assert is_idle(queue), "an answer that nobody reads any more has ended"


def test_a_failed_answer_leaves_the_others_alone(queue: QuestionQueue, chat_rag: RAG) -> None:
    with closing(ask(queue, chat_rag, ENDLESS)) as other:
        text(other)
        with pytest.raises(ConfigError, match="too long"):
            list(queue.stream(partial(chat_rag.ask, "snow " * 9000), threading.Event()))
        with pytest.raises(ConfigError, match="empty"):
            list(queue.stream(partial(chat_rag.ask, " "), threading.Event()))
        assert text(other)


def test_encodings_are_shared(chat_rag: RAG, tmp_path: Path) -> None:
    rag = own(chat_rag)
    reader: Any = rag.readers["cepe"]
    width = reader.model.config.encoder_config.hidden_size
    reader.store = PassageStore(tmp_path, reader.model.encoder_fingerprint(), width, max_bytes=10**8)
    with closing(QuestionQueue(rag)) as queue, ThreadPoolExecutor(3) as visitors:
        answers = list(visitors.map(lambda _: whole(ask(queue, rag, 4)), range(3)))
    assert len({answer.text for answer in answers}) == 1
    assert (reader.store.stats.misses, reader.store.stats.hits) == (2, 4)


@pytest.fixture(params=["a batch of one", "a sliding window"])
def one_at_a_time(request: pytest.FixtureRequest, chat_rag: RAG) -> Iterator[tuple[QuestionQueue, RAG]]:
    """One question is answered at a time: the batch has one place, or the decoder cannot batch."""
    rag = own(chat_rag)
    slides = request.param == "a sliding window"
    if slides:
        reader = rag.readers["cepe"]
        batch = BatchDecoder(decoder_of(with_config(reader.model, sliding_window=64)), reader.ends)
        for reader in rag.readers.values():
            reader.batch = batch
    with closing(QuestionQueue(rag, batch=8 if slides else 1, waiting=2)) as queue:
        yield queue, rag


def test_a_waiting_question_knows_its_position_and_may_be_cancelled(one_at_a_time: tuple[QuestionQueue, RAG]) -> None:
    leaves = threading.Event()
    with closing(ask(*one_at_a_time, ENDLESS)) as first:
        text(first)
        waiting, leaving = ask(*one_at_a_time, 8), ask(*one_at_a_time, 8, leaves)
        assert next(waiting) == Waiting(0)
        assert next(leaving) == Waiting(1)
        with pytest.raises(QueueFullError):
            next(ask(*one_at_a_time, 8))
        leaves.set()
        assert list(leaving) == []
        assert next(waiting) == Waiting(0)
    assert whole(waiting).finish == "length"


def test_closing_ends_every_answer(one_at_a_time: tuple[QuestionQueue, RAG]) -> None:
    queue, _ = one_at_a_time
    running, waiting = (ask(*one_at_a_time, ENDLESS) for _ in range(2))
    text(running)
    assert next(waiting) == Waiting(0)
    queue.close()
    *_, answer = running
    assert isinstance(answer, Answer)
    assert answer.finish == "cancelled"
    assert list(waiting) == []
    assert list(ask(*one_at_a_time, 8)) == []


def test_indexes_are_opened_and_closed_while_others_read(
    queue: QuestionQueue, chat_rag: RAG, chat_index: Path, tmp_path: Path
) -> None:
    indexes = Indexes(chat_rag, chat_index, "tiny")
    folder = tmp_path / "index"
    shutil.copytree(chat_index, folder)
    finished = threading.Event()

    def reopen() -> None:
        while not finished.is_set():
            indexes.close(folder)
            indexes.open_folder(folder)

    with ThreadPoolExecutor(4) as threads:
        reopening = threads.submit(reopen)
        answers = list(threads.map(lambda _: whole(ask(queue, indexes.open_folder(folder), 8)), range(6)))
        finished.set()
        reopening.result()
    assert len({answer.text for answer in answers}) == 1
    assert all(len(answer.hits) == 2 for answer in answers)


def test_every_index_is_reranked_alike(chat_rag: RAG, chat_index: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(chat_index, other)
    indexes = Indexes(RAG(open_index(chat_index), {}, reranker=LengthReranker()), chat_index, "tiny")
    hits = indexes.open_folder(other).retrieve("Is soil dark?", k=3)
    assert [hit.reranker for hit in hits] == ["longest"] * 3


def test_deleted_text_is_not_served(queue: QuestionQueue, chat_rag: RAG, chat_index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(chat_index, folder)
    indexes = Indexes(RAG(open_index(folder), chat_rag.readers), folder, "tiny")

    def documents(index: Path) -> set[str]:
        ask_soil = partial(indexes.open_folder(index).ask, "Is soil dark?", sampling=SamplingParams(max_new_tokens=2))
        return {hit.passage.document for hit in whole(queue.stream(ask_soil, threading.Event())).hits}

    other = tmp_path / "other"  # opened besides the first one
    shutil.copytree(chat_index, other)
    for index in (folder, other):
        assert "soil.txt" in documents(index)
        delete(index, ["soil.txt"])
        collect_garbage(index)
        assert "soil.txt" not in documents(index)


def settings(index: Path, *, reader: str = "cepe", tokens: int = 8) -> tuple[Any, ...]:
    """The values of the page's controls."""
    return (index.name, 2.0, 1.0, "hybrid", reader, float(tokens), 0.0)


@pytest.fixture
def page(queue: QuestionQueue, chat_rag: RAG, chat_index: Path, tmp_path: Path) -> Handlers:
    return Handlers(Indexes(chat_rag, chat_index, "tiny"), queue, tmp_path)


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
def test_an_index_that_was_named_is_the_only_one(page: Handlers, chat_index: Path) -> None:
    assert page.choices(visitor("a page")) == [chat_index.name]
    for name in ("private", "default"):
        with pytest.raises(ConfigError, match=f"no index '{name}'"):
            page.indexes.open(name)


@pytest.mark.usefixtures("own_indexes")
def test_without_a_named_index_all_of_ragxs_own_are_offered(
    chat_rag: RAG, queue: QuestionQueue, tmp_path: Path
) -> None:
    page = Handlers(Indexes(chat_rag, None, "tiny"), queue, tmp_path)
    assert page.choices(visitor("a page")) == ["default", "private"]
    assert page.indexes.open("private").retriever.index.folder == tmp_path / "home" / "indexes" / "private"


def kept_turns(view: View) -> list[Turn]:
    """The turns of the conversation that is kept after an answer."""
    return load_chats(view.kept).turns


def kept_replies(view: View) -> list[Reply]:
    """The replies of its only turn."""
    (turn,) = kept_turns(view)
    return turn.replies


def test_a_page_has_one_answer_at_a_time(page: Handlers, chat_index: Path) -> None:
    first = page.ask(visitor("a page"), "What reflects light?", {}, *settings(chat_index))
    next(first)
    second = page.ask(visitor("a page"), "And what else?", {}, *settings(chat_index))
    assert len(list(second)) == 1, "nothing is shown of a second one"
    *_, last = first
    assert [turn.question for turn in kept_turns(last)] == ["What reflects light?"]
    assert len(list(page.ask(visitor("a page"), "And what else?", last.kept, *settings(chat_index)))) > 2


def test_two_pages_are_answered_at_once_and_stop_separately(page: Handlers, chat_index: Path) -> None:
    endless = settings(chat_index, tokens=ENDLESS)
    first, second = (page.ask(visitor(name), "Snow?", {}, *endless) for name in ("first", "second"))
    for shown in (first, second):
        assert any("sunlight" in str(view.current) for view in shown)
    for name, shown in (("first", first), ("second", second)):
        next(shown)  # still being answered
        page.stop(visitor(name))
        *_, last = shown
        (reply,) = kept_replies(last)
        assert reply.finished
        assert reply.stopped
        assert reply.text.startswith(SENTENCE.strip())


def test_two_readers_answer_one_after_another_and_both_to_their_end(page: Handlers, chat_index: Path) -> None:
    *_, last = page.ask(visitor("a page"), "Snow?", {}, *settings(chat_index, reader=BOTH))
    replies = kept_replies(last)
    assert [reply.reader for reply in replies] == ["cepe", "full"]
    assert replies[0].text == replies[1].text != ""
    assert not any(reply.stopped or reply.error for reply in replies)


def test_stop_ends_both_readers(page: Handlers, chat_index: Path) -> None:
    shown = page.ask(visitor("a page"), "Snow?", {}, *settings(chat_index, reader=BOTH, tokens=1024))
    assert any("sunlight" in str(view.current) for view in shown)
    page.stop(visitor("a page"))
    *_, last = shown
    first, second = kept_replies(last)
    assert first.stopped
    assert (second.stopped, second.text) == (True, "")


def test_the_page_says_that_a_question_waits(
    one_at_a_time: tuple[QuestionQueue, RAG], chat_index: Path, tmp_path: Path
) -> None:
    queue, rag = one_at_a_time
    page = Handlers(Indexes(rag, chat_index, "tiny"), queue, tmp_path)
    with closing(ask(queue, rag, ENDLESS)) as other:
        text(other)
        shown = page.ask(visitor("a page"), "Snow?", {}, *settings(chat_index))
        assert "Searching" in next(shown).current
        assert markup.WAITING in next(shown).current
    *_, last = shown
    (reply,) = kept_replies(last)
    assert reply.finished
    assert SENTENCE.strip().startswith(reply.text)


def test_a_visitor_who_leaves_while_waiting_is_not_answered(
    one_at_a_time: tuple[QuestionQueue, RAG], chat_index: Path, tmp_path: Path
) -> None:
    queue, rag = one_at_a_time
    page = Handlers(Indexes(rag, chat_index, "tiny"), queue, tmp_path)
    with closing(ask(queue, rag, ENDLESS)) as other:
        text(other)
        shown = page.ask(visitor("a page"), "Snow?", {}, *settings(chat_index))
        assert any(markup.WAITING in str(view.current) for view in shown)
        page.leave(visitor("a page"))
        *_, last = shown
        (reply,) = kept_replies(last)
        assert (reply.stopped, reply.text) == (True, "")
