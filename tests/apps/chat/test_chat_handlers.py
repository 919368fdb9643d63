"""What the page's controls do, without a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from ragx_apps.chat.chats import Chats, dump_chats, load_chats
from ragx_apps.chat.examples import example_questions
from ragx_apps.chat.feedback import check_feedback
from ragx_apps.chat.handlers import Handlers, View
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.settings import BOTH
from ragx_apps.queue import QuestionQueue

from ragx.config import IndexSettings
from ragx.errors import ConfigError, RagxError
from ragx.indexing.build import build
from ragx.rag import RAG
from ragx.retrieval import open_index

A_PAGE: Any = SimpleNamespace(session_hash="a page")
QUESTION = "How much light does snow reflect?"


def controls(index: Path, *, reader: str = "cepe", temperature: float = 0.0, tokens: int = 8) -> tuple[Any, ...]:
    """The values of the page's settings."""
    return (index.name, 2.0, 1.0, "bm25", reader, float(tokens), temperature)


@pytest.fixture
def handlers(queue: QuestionQueue, chat_rag: RAG, chat_index: Path, tmp_path: Path) -> Handlers:
    return Handlers(Indexes(chat_rag, chat_index, "tiny"), queue, tmp_path / "visitors", tmp_path / "ratings.jsonl")


def last(views: Sequence[View]) -> Any:
    """What is kept after an answer."""
    return views[-1].kept


def questions(kept: Any) -> list[str]:
    return [turn.question for turn in load_chats(kept).turns]


def test_the_passages_are_shown_before_the_answer(handlers: Handlers, chat_index: Path) -> None:
    views = [*handlers.ask(A_PAGE, QUESTION, {}, *controls(chat_index))]
    (found,) = [number for number, view in enumerate(views) if "sources" in str(view.found)]
    assert "snow.txt" in views[found].found
    assert not any('class="text"' in str(view.current) for view in views[:found])
    assert views[-1].found == ""


def test_another_answer_takes_the_place_of_the_last_one(handlers: Handlers, chat_index: Path) -> None:
    kept = last([*handlers.ask(A_PAGE, "First?", {}, *controls(chat_index))])
    kept = last([*handlers.ask(A_PAGE, QUESTION, kept, *controls(chat_index))])
    again = last([*handlers.ask_again(A_PAGE, kept, *controls(chat_index, reader=BOTH))])
    assert questions(again) == ["First?", QUESTION]
    assert len(load_chats(again).turns[-1].replies) == 2
    assert len(load_chats(again).chats) == 1


def test_there_is_no_other_answer_to_no_question(handlers: Handlers, chat_index: Path) -> None:
    assert [*handlers.ask_again(A_PAGE, {}, *controls(chat_index))] == [View()]
    assert [*handlers.ask(A_PAGE, " ", {}, *controls(chat_index))] == [View()]


def test_conversations_are_opened_renamed_and_deleted(handlers: Handlers, chat_index: Path) -> None:
    first = last([*handlers.ask(A_PAGE, "First?", {}, *controls(chat_index))])
    new = handlers.new_chat(A_PAGE, first)
    assert "Ask your documents" in new.past
    second = last([*handlers.ask(A_PAGE, "Second?", new.kept, *controls(chat_index))])
    names = [chat.name for chat in load_chats(second).chats]
    assert names == ["Second?", "First?"]
    opened = handlers.open_chat(A_PAGE, load_chats(first).open, second)
    assert "First?" in opened.past
    assert "Second?" not in opened.past
    renamed = handlers.rename_chat(A_PAGE, "Snow", opened.kept)
    assert [chat.name for chat in load_chats(renamed.kept).chats] == ["Second?", "Snow"]
    deleted = handlers.delete_chat(A_PAGE, renamed.kept)
    assert [chat.name for chat in load_chats(deleted.kept).chats] == ["Second?"]
    assert "Ask your documents" in deleted.past


def test_conversations_do_not_change_during_an_answer(handlers: Handlers, chat_index: Path) -> None:
    kept = last([*handlers.ask(A_PAGE, "First?", {}, *controls(chat_index))])
    with closing(handlers.ask(A_PAGE, "Second?", kept, *controls(chat_index, tokens=1024))) as answer:  # type: ignore[type-var]
        next(answer)
        view = handlers.delete_chat(A_PAGE, kept)
        assert view.kept == View().kept
        assert view.past == View().past
        assert handlers.rate(A_PAGE, "0.0", "good", kept) == View().kept
        assert not handlers.feedback.exists()  # type: ignore[union-attr]


def test_ratings_are_appended_to_a_file(handlers: Handlers, chat_index: Path, tmp_path: Path) -> None:
    kept = last([*handlers.ask(A_PAGE, QUESTION, {}, *controls(chat_index, reader=BOTH))])
    kept = handlers.rate(A_PAGE, "0.1", "good", kept)
    assert [reply.rating for reply in load_chats(kept).turns[0].replies] == ["", "good"]
    handlers.rate(A_PAGE, "0.0", "bad", kept)
    lines = [json.loads(line) for line in (tmp_path / "ratings.jsonl").read_text().splitlines()]
    assert [(line["rating"], line["reader"]) for line in lines] == [("good", "full"), ("bad", "cepe")]
    assert {(line["question"], line["model"], line["index"]) for line in lines} == {(QUESTION, "tiny", chat_index.name)}


@pytest.mark.parametrize("place", ["", "x", "0", "0.9", "9.0", "0.0.0"])
def test_a_rating_of_nothing_is_ignored(handlers: Handlers, chat_index: Path, tmp_path: Path, place: str) -> None:
    kept = last([*handlers.ask(A_PAGE, QUESTION, {}, *controls(chat_index))])
    assert handlers.rate(A_PAGE, place, "good", kept) == View().kept
    assert not (tmp_path / "ratings.jsonl").exists()


def test_a_rating_that_cannot_be_written_is_said(handlers: Handlers, chat_index: Path, tmp_path: Path) -> None:
    (tmp_path / "ratings.jsonl").mkdir()
    kept = last([*handlers.ask(A_PAGE, QUESTION, {}, *controls(chat_index))])
    with pytest.raises(gr.Error, match="cannot write"):
        handlers.rate(A_PAGE, "0.0", "good", kept)


def test_a_file_that_cannot_take_ratings_is_refused_at_once(tmp_path: Path) -> None:
    check_feedback(tmp_path / "ratings.jsonl")
    with pytest.raises(ConfigError, match="cannot write"):
        check_feedback(tmp_path / "missing" / "ratings.jsonl")


@pytest.fixture
def handbook(shared: Path, chat_rag: RAG, queue: QuestionQueue, tmp_path: Path) -> tuple[Handlers, Path]:
    """An index of a PDF file of twelve pages."""
    (tmp_path / "files").mkdir()
    shutil.copy(shared / "cases" / "32-pdf-citation-without-page" / "handbook.pdf", tmp_path / "files")
    build([tmp_path / "files"], tmp_path / "index", IndexSettings())
    rag = RAG(open_index(tmp_path / "index"), chat_rag.readers)
    return Handlers(Indexes(rag, tmp_path / "index", "tiny"), queue, tmp_path / "visitors"), tmp_path / "index"


def test_the_page_of_a_source_is_drawn(handbook: tuple[Handlers, Path]) -> None:
    handlers, index = handbook
    kept = last([*handlers.ask(A_PAGE, "What is the code of store room 5?", {}, *controls(index))])
    source = load_chats(kept).turns[0].replies[0].sources[0]
    html = handlers.show_page(A_PAGE, "0.0.0", kept)
    assert f"Page {source.page} of handbook" in html
    assert "data:image/png;base64,iVBOR" in html
    for place in ("0.0.99", "7.0.0", "x"):
        assert handlers.show_page(A_PAGE, place, kept) == ""
    (index.parent / "files" / "handbook.pdf").unlink()
    assert "cannot be drawn" in handlers.show_page(A_PAGE, "0.0.0", kept)


def test_a_page_is_found_by_its_passage_alone(handbook: tuple[Handlers, Path]) -> None:
    handlers, index = handbook
    kept = last([*handlers.ask(A_PAGE, "What is the code of store room 5?", {}, *controls(index))])
    forged = json.loads(json.dumps(kept).replace("handbook.pdf#", "/etc/passwd#"))
    with pytest.raises(gr.Error, match="no longer in the index"):
        handlers.show_page(A_PAGE, "0.0.0", forged)
    other = dump_chats(Chats().with_turns([load_chats(kept).turns[0].model_copy(update={"index": "/etc"})]))
    with pytest.raises(gr.Error, match="no index"):
        handlers.show_page(A_PAGE, "0.0.0", other)


def test_a_page_that_the_filter_leaves_out_is_not_shown(handbook: tuple[Handlers, Path], tmp_path: Path) -> None:
    handlers, index = handbook
    kept = last([*handlers.ask(A_PAGE, "What is the code of store room 5?", {}, *controls(index))])
    page = load_chats(kept).turns[0].replies[0].sources[0].page
    forged = json.loads(json.dumps(kept).replace(f'"page": {page}', '"page": 99'))
    assert f"Page {page} of handbook" in handlers.show_page(A_PAGE, "0.0.0", forged)
    rag = RAG(open_index(index), {}, where=f"page!={page}")
    filtered = Handlers(Indexes(rag, index, "tiny"), handlers.queue, tmp_path / "others")
    with pytest.raises(gr.Error, match="no longer in the index"):
        filtered.show_page(A_PAGE, "0.0.0", kept)


def test_questions_to_begin_with_are_about_documents_of_the_index(chat_index: Path, tmp_path: Path) -> None:
    (tmp_path / "lease.md").write_text("# Lease\n\nSigned.\n\n## Rent\n\n" + "The rent is due each month. " * 50)
    build([tmp_path / "lease.md"], tmp_path / "index", IndexSettings())
    (asked,) = example_questions(RAG(open_index(tmp_path / "index", method="bm25"), {}))
    assert "“Lease”" in asked
    rag = RAG(open_index(chat_index, method="bm25"), {})
    assert len(set(example_questions(rag))) == 3
    (only,) = example_questions(RAG(open_index(chat_index, method="bm25"), {}, where='path=="soil.txt"'))
    assert only == "Tell me about “soil”."


def test_the_head_names_the_index_and_the_model(handlers: Handlers, chat_index: Path) -> None:
    head, *buttons = handlers.choose_index(chat_index.name, A_PAGE)
    assert chat_index.name in head
    assert "tiny" in head
    assert [button.visible for button in buttons] == [True] * 3
    _, *none = handlers.choose_index("gone", A_PAGE)
    assert [button.visible for button in none] == [False] * 3


def test_an_index_that_cannot_be_opened_is_said_when_it_is_asked(handlers: Handlers, chat_index: Path) -> None:
    settings = ("gone", *controls(chat_index)[1:])
    kept = last([*handlers.ask(A_PAGE, QUESTION, {}, *settings)])
    assert "there is no index 'gone'" in load_chats(kept).turns[0].replies[0].error
    with pytest.raises(RagxError):
        handlers.indexes.open("gone")
