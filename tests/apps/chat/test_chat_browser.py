"""The page as a visitor uses it, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from ragx_apps.queue import QuestionQueue

from tests.helpers.chat_page import HOSTILE, NOTES, SENTENCE
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.slow

KEPT = "localStorage.getItem('ragx-chat')"
QUESTION = "How much of the sunlight does fresh snow reflect?"


def ask(page: Page, question: str = QUESTION) -> None:
    box = page.get_by_label("Question")
    box.fill(question)
    box.press("Enter")


def answered(page: Page, turns: int = 1) -> None:
    expect(page.locator("#past .turn")).to_have_count(turns, timeout=60_000)


def toggle_sidebar(page: Page) -> None:
    page.get_by_role("button", name="Toggle Sidebar").first.click()


def set_longest_answer(page: Page, tokens: int) -> None:
    toggle_sidebar(page)
    page.get_by_label("number input for Maximum answer length (tokens)").fill(str(tokens))
    page.get_by_label("number input for Maximum answer length (tokens)").press("Tab")
    toggle_sidebar(page)


def test_an_answer_grows_and_comes_with_sources_by_their_share(page: Page) -> None:
    expect(page.get_by_text("Ask your documents")).to_be_visible()
    ask(page)
    growing = page.locator("#current .growing .text")
    growing.wait_for()
    first = growing.inner_text()
    page.wait_for_function("shown => document.querySelector('.text').innerText.length > shown", arg=len(first))
    answered(page)
    assert page.locator(".text").inner_text().startswith(SENTENCE.strip())
    expect(page.locator(".figures")).to_contain_text("tokens/s")
    expect(page.locator(".figures")).to_contain_text("first token after")
    page.locator(".sources .more > summary").click()
    uncited = page.locator(".sources li:not(:has(.number))")
    shares = [float(text.rstrip("%")) for text in uncited.locator(".percent").all_inner_texts()]
    assert len(shares) >= 12
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    widths = [box["width"] for bar in uncited.locator(".bar").all() if (box := bar.bounding_box())]
    assert widths == sorted(widths, reverse=True)


def test_a_citation_opens_its_passage_with_the_span_marked(page: Page) -> None:
    ask(page)
    answered(page)
    citation = page.locator(".citations a.citation").first
    expect(citation).to_contain_text("snow")
    mark = page.locator(".sources mark").first
    expect(mark).to_be_hidden()
    citation.focus()
    page.keyboard.press("Enter")
    expect(mark).to_be_visible()
    assert mark.inner_text() in NOTES["snow.txt"]
    assert "reflects most of the sunlight" in mark.inner_text()
    page.keyboard.press("Enter")  # the focus moved to the source: the key closes it again
    expect(mark).to_be_hidden()


def test_an_answer_is_copied_a_question_edited_and_a_conversation_saved(page: Page, tmp_path: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page)
    answered(page)
    answer = page.locator("#past .text").inner_text()
    assert SENTENCE.strip() in answer
    answer = answer.replace(page.locator("#past a.mark").first.inner_text(), "", 1)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == answer
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Question")).to_have_value(QUESTION)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save").click()
    saving.value.save_as(tmp_path / "saved.md")
    saved = (tmp_path / "saved.md").read_text()
    assert saved.startswith(f"## {QUESTION}\n\n{answer}\n\n- 1. snow")
    assert "snow.txt, characters" in saved


def is_idle(queue: QuestionQueue) -> bool:
    """Whether the queue becomes empty."""
    return eventually(lambda: not queue.admitted)


def test_stop_ends_the_answer_where_it_is(page: Page, queue: QuestionQueue) -> None:
    set_longest_answer(page, 1024)
    ask(page)
    page.locator("#current .growing .text").wait_for()
    page.get_by_role("button", name="Stop").click()
    answered(page)
    expect(page.locator(".figures")).to_contain_text("stopped")
    assert is_idle(queue)
    ask(page, "And now?")  # the box takes questions again
    page.locator("#current .growing .text").wait_for()


def test_closing_the_page_ends_its_answer_and_deletes_its_files(
    browser: Browser, address: str, queue: QuestionQueue, uploads: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    set_longest_answer(page, 1024)
    upload(page, "lease.txt", "The lease was signed in May.")
    files = [*uploads.iterdir()]
    assert files
    ask(page, "When was the lease signed?")
    page.locator("#current .growing .text").wait_for(timeout=60_000)
    context.close()
    assert is_idle(queue)
    assert eventually(lambda: not any(file.exists() for file in files))


def test_two_visitors_are_answered_at_once_and_each_stops_their_own(page: Page, browser: Browser, address: str) -> None:
    other = browser.new_context().new_page()
    other.goto(address)
    other.get_by_label("Question").wait_for()
    growing = "#current .growing .text"
    for visitor in (page, other):
        set_longest_answer(visitor, 1024)
    for visitor in (page, other):
        ask(visitor)
    other.locator(growing).wait_for()
    expect(page.locator(growing)).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    answered(page)
    expect(page.locator(".figures")).to_contain_text("stopped")
    answered(other)
    expect(other.locator(".figures")).not_to_contain_text("stopped")
    other.context.close()


def test_the_passages_are_shown_while_they_are_read(page: Page) -> None:
    set_longest_answer(page, 1024)
    ask(page)
    expect(page.locator("#found .sources")).to_contain_text("snow")
    page.locator("#current .growing .text").wait_for()
    page.get_by_role("button", name="Stop").click()
    answered(page)
    expect(page.locator("#found .sources")).to_have_count(0)


def test_another_answer_is_asked_for(page: Page) -> None:
    ask(page)
    answered(page)
    page.get_by_role("button", name="Try again").click()
    page.locator("#current .turn").wait_for()
    answered(page)
    assert page.locator(".question").all_inner_texts() == [QUESTION]


def test_an_answer_is_rated(page: Page, ratings: Path) -> None:
    ask(page)
    answered(page)
    good = page.get_by_role("button", name="Good answer")
    kept = page.evaluate(KEPT)
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    assert eventually(ratings.exists)
    page.wait_for_function(f"before => {KEPT} !== before", arg=kept)  # the browser has it too
    page.reload()
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "false")


def test_conversations_are_listed_renamed_and_deleted(page: Page) -> None:
    ask(page, "Is snow bright?")
    answered(page)
    page.get_by_role("button", name="New chat").click()
    answered(page, 0)
    ask(page, "And soil?")
    answered(page)
    toggle_sidebar(page)
    chats = page.locator("#chats label")
    assert [*map(str.strip, chats.all_inner_texts())] == ["And soil?", "Is snow bright?"]
    page.get_by_label("Is snow bright?").check()
    expect(page.locator(".question")).to_have_text("Is snow bright?")
    page.get_by_label("Name").fill("Snow")
    page.get_by_role("button", name="Rename").click()
    expect(chats.last).to_have_text("Snow")
    page.reload()
    expect(page.locator(".question")).to_have_text("Is snow bright?")
    toggle_sidebar(page)
    page.get_by_role("button", name="Delete this chat").click()
    expect(chats).to_have_count(2)
    page.get_by_role("button", name="Delete it for good?").click()
    expect(chats).to_have_count(1)
    expect(page.get_by_text("Ask your documents")).to_be_visible()


def test_a_conversation_is_there_after_a_reload_until_a_new_one_begins(page: Page) -> None:
    ask(page, "Is snow bright?")
    answered(page)
    ask(page, "And soil?")
    answered(page, 2)
    page.reload()
    answered(page, 2)
    assert page.locator(".question").all_inner_texts() == ["Is snow bright?", "And soil?"]
    page.get_by_role("button", name="New chat").click()
    answered(page, 0)
    expect(page.get_by_text("Ask your documents")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Ask your documents")).to_be_visible()
    answered(page, 0)


def choose_file(page: Page, name: str, text: str) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload files").click()
    chooser.value.set_files({"name": name, "mimeType": "text/plain", "buffer": text.encode()})


def upload(page: Page, name: str, text: str) -> None:
    choose_file(page, name, text)
    expect(page.locator("#added")).to_contain_text(f"1 passage of {name} can be asked", timeout=60_000)


def test_uploaded_files_are_private(page: Page, browser: Browser, address: str) -> None:
    upload(page, "lease.txt", "The lease was signed in May.")
    expect(page.locator("h1")).to_contain_text("your files")
    ask(page, "When was the lease signed?")
    answered(page)
    assert page.locator(".sources .title").all_inner_texts() != []
    expect(page.locator(".sources")).to_contain_text("lease.txt")
    expect(page.locator(".sources")).not_to_contain_text("soil")
    other = browser.new_context().new_page()
    other.goto(address)
    toggle_sidebar(other)
    other.get_by_label("Index").click()
    expect(other.get_by_role("option")).to_have_count(1)
    expect(other.get_by_role("option")).to_contain_text("notes0")
    other.context.close()


def test_two_readers_answer_side_by_side(page: Page) -> None:
    toggle_sidebar(page)
    page.get_by_label("Side by side").check()
    toggle_sidebar(page)
    ask(page)
    answered(page)
    replies = page.locator(".reply")
    expect(replies).to_have_count(2)
    left, right = (box for reply in replies.all() if (box := reply.bounding_box()))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    assert replies.first.locator(".bar").count() > 0
    assert replies.last.locator(".bar").count() == 0  # the full prompt attends to no passage
    assert [*map(str.strip, page.locator(".reader").all_inner_texts())] == ["CEPE", "Full prompt"]


def test_a_bad_upload_is_one_sentence(page: Page) -> None:
    choose_file(page, "empty.txt", " ")
    error = "there are no passages to index: skipped empty.txt: has no text."
    expect(page.locator("#added [role=alert]")).to_have_text(error, timeout=60_000)


def test_hostile_text_is_shown_as_text(page: Page) -> None:
    ask(page, HOSTILE)
    answered(page)
    assert page.locator(".question").inner_text() == HOSTILE
    source = page.locator(".sources li", has_text="document.title").first
    source.locator("summary").click()
    assert source.locator(".passage").inner_text() == HOSTILE
    assert page.locator("#past script, #past img").count() == 0
    page.reload()
    answered(page)
    assert page.locator(".question").inner_text() == HOSTILE


def test_a_narrow_window_shows_all_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    ask(page, "x" * 300)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator(".sources summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    expect(page.get_by_label("Question")).to_be_in_viewport()
