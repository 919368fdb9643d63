"""The page: its layout, and what its controls are wired to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import gradio as gr
from gradio.events import api as offer

from ragx.config import PROMPT_PASSAGES
from ragx.types import SearchMethod
from ragx_apps.chat import api, markup
from ragx_apps.chat.chats import NAME
from ragx_apps.chat.examples import SHOWN
from ragx_apps.chat.handlers import Handlers
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.serving import Blocks
from ragx_apps.chat.settings import BOTH
from ragx_apps.chat.uploads import TYPES
from ragx_apps.queue import QuestionQueue

MAX_QUESTION = 4000
"""Characters."""
AT_A_TIME: dict[str, Any] = {"concurrency_id": "ask", "concurrency_limit": 64}
"""Questions in the queue at once; each occupies one of serving.py's `THREADS`."""
HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
ONCE: dict[str, Any] = {"trigger_mode": "once", **HIDDEN, **AT_A_TIME}
WHERE_CLICKED = "(place, ...others) => [window.ragx.place, ...others]"
"""page.js notes where on the page a hidden button was needed."""


def build_page(indexes: Indexes, queue: QuestionQueue, uploads: Path, feedback: Path | None = None) -> gr.Blocks:
    """The page over these indexes; `uploads` and `feedback`: as of `Handlers`."""
    handlers = Handlers(indexes, queue, uploads, feedback)
    name = indexes.first.name
    both = [("Side by side", BOTH)] if len(indexes.readers) > 1 else []
    with Blocks(title="ragx", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        kept = gr.BrowserState({}, storage_key="ragx-chat", secret="ragx-chat")  # noqa: S106  (the page's own, no secret)
        with gr.Sidebar(label="Chats and settings", open=False, elem_id="sidebar"):
            gr.HTML("<h2>Chats</h2>")
            chats = gr.Radio([], label="Chats", show_label=False, container=False, visible=False, elem_id="chats")
            chat_name = gr.Textbox(label="Name", max_lines=1, max_length=NAME, submit_btn="Rename", elem_id="chat-name")
            delete = gr.Button("Delete this chat", size="sm", elem_id="delete-chat")
            gr.HTML("<h2>Settings</h2>")
            index = gr.Dropdown([name], value=name, label="Index", info="The documents to ask.")
            reader = gr.Radio(
                [*((markup.READERS[each], each) for each in indexes.readers), *both],
                value=indexes.readers[0],
                label="Reader",
                info="CEPE encodes the passages; the full prompt holds as many as fit.",
                visible=bool(both),
            )
            method = gr.Dropdown([*get_args(SearchMethod)], value="hybrid", label="Search")
            k = gr.Slider(
                1,
                200,
                60,
                step=1,
                label="Passages",
                info="Found at most. Those much worse than the best one are left out.",
            )
            prompt_passages = gr.Slider(0, 20, PROMPT_PASSAGES, step=1, label="Passages also shown to the decoder")
            length = gr.Slider(16, 1024, 256, step=16, label="Maximum answer length (tokens)")
            temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0 takes the most likely token.")
        with gr.Row(elem_id="head"):
            head = gr.HTML(markup.head(name, indexes.model, indexes.notes))
            gr.Button("Save", size="sm", scale=0, min_width=80, elem_id="save")
            new = gr.Button("New chat", size="sm", scale=0, min_width=100)
        with gr.Column(elem_id="thread"):
            past = gr.HTML(markup.EMPTY, elem_id="past")
            with gr.Row(elem_id="growing"):
                current = gr.HTML("", elem_id="current")
                found = gr.HTML("", elem_id="found")
            with gr.Row(elem_id="examples"):
                examples = [gr.Button("", size="sm", elem_classes="example", visible=False) for _ in range(SHOWN)]
        with gr.Column(elem_id="ask"):
            added = gr.HTML("", elem_id="added")
            with gr.Row(elem_id="ask-row"):
                add = gr.UploadButton(
                    "Upload files",
                    file_count="multiple",
                    file_types=list(TYPES),
                    scale=0,
                    min_width=44,
                    elem_id="add-files",
                )
                question = gr.Textbox(
                    show_label=False,
                    label="Question",
                    placeholder="Ask a question …",
                    lines=1,
                    max_lines=6,
                    max_length=MAX_QUESTION,
                    submit_btn="Ask",
                    autofocus=True,
                    container=False,
                    elem_id="question",
                )
        pdf_page = gr.HTML("", elem_id="pdf-page")
        place = gr.Textbox(visible="hidden")
        again, good, bad, show_page = (
            gr.Button(each, visible="hidden", elem_id=f"do-{each}") for each in ("again", "good", "bad", "page")
        )

        offer(api.ask_with(indexes, queue), api_name="ask", **AT_A_TIME)  # the first to take this name
        settings = [kept, index, k, prompt_passages, method, reader, length, temperature]
        view = [past, current, found, kept, chats, chat_name, question]
        blocks.load(handlers.arrive, [kept], [index, *view], **HIDDEN)
        question.submit(handlers.ask, [question, *settings], view, **ONCE)
        for example in examples:
            example.click(handlers.ask, [example, *settings], view, **ONCE)
        again.click(handlers.ask_again, settings, view, **ONCE)
        question.stop(handlers.stop, queue=False, **HIDDEN)
        for event in (blocks.load, index.change):
            event(handlers.choose_index, [index], [head, *examples], **HIDDEN)
        new.click(handlers.new_chat, [kept], view, **HIDDEN)
        chats.input(handlers.open_chat, [chats, kept], view, **HIDDEN)
        chat_name.submit(handlers.rename_chat, [chat_name, kept], view, **HIDDEN)
        delete.click(handlers.delete_chat, [kept], view, **HIDDEN)
        for rated in (good, bad):
            rated.click(handlers.rate, [place, rated, kept], [kept], js=WHERE_CLICKED, **HIDDEN)
        show_page.click(handlers.show_page, [place, kept], [pdf_page], js=WHERE_CLICKED, **HIDDEN)
        add.upload(handlers.add_files, [add], [added, index], api_visibility="private", show_progress_on=added)
        blocks.unload(handlers.leave)
    blocks.queue(max_size=64, default_concurrency_limit=16)
    return blocks  # type: ignore[no-any-return]  # a context manager without types
