"""The page: what is on it, and what its controls do."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api as offer

from ragx.errors import RagxError
from ragx.reader import READERS, ReaderName
from ragx.retrieval import METHODS
from ragx_apps.chat import api, markup
from ragx_apps.chat.conversation import (
    Reply,
    Turn,
    dump_turns,
    load_turns,
    messages,
    stream_answer,
    whole_reply,
)
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.serving import Blocks
from ragx_apps.chat.uploads import TYPES, Visitor

OWN_FILES = "your files"
"""The name of a visitor's private index."""
BOTH = "both"
MAX_QUESTION = 4000
"""Characters."""
EXAMPLES = {
    "wikipedia-sample": [
        "How much of the sunlight that reaches it does fresh snow reflect?",
        "What do aardvarks eat?",
        "When did Apollo 11 land on the Moon?",
    ]
}
"""Questions that an index of this name answers."""
DEFECT = "This answer failed by a defect of ragx; the terminal that runs it says more."


class Page:
    """The handlers of the page, for many visitors."""

    def __init__(self, indexes: Indexes, uploads: Path) -> None:
        """`uploads` is a folder of ours: each visitor gets one in it."""
        self.indexes, self.uploads = indexes, uploads
        self.visitors: dict[str, Visitor] = {}

    def visitor(self, request: gr.Request) -> Visitor:
        """Who asks; one open page is one visitor."""
        name = str(request.session_hash)
        if name not in self.visitors:
            self.visitors[name] = Visitor(self.uploads / secrets.token_hex(16))
        return self.visitors[name]

    def leave(self, request: gr.Request) -> None:
        """The page was closed: stop its answer and delete its files."""
        visitor = self.visitors.pop(str(request.session_hash), None)
        if visitor is not None:
            self.indexes.close(visitor.index)
            visitor.close()

    def choices(self, request: gr.Request) -> list[str]:
        """Names of the indexes this visitor may ask."""
        own = [OWN_FILES] if self.visitor(request).names else []
        return [*self.indexes.folders(), *own]

    def arrive(self, kept: Any, request: gr.Request) -> tuple[Any, str]:
        """The page was opened: the indexes to choose from, and the conversation that the browser kept."""
        choices = self.choices(request)
        return gr.Dropdown(choices, value=choices[0]), markup.conversation(load_turns(kept))

    def ask(
        self,
        question: str,
        kept: Any,
        index: str,
        k: int,
        n_decoder: int,
        method: str,
        reader: str,
        max_new_tokens: int,
        temperature: float,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Answer, and show the answer as it grows: past turns, this turn, the turns to keep, the question box."""
        visitor = self.visitor(request)
        if not question.strip() or not visitor.answering.acquire(blocking=False):  # one answer at a time
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        try:
            settings = (k, n_decoder, method, reader, max_new_tokens, temperature)
            yield from self._turn(question.strip(), load_turns(kept), index, visitor, *settings)
        finally:
            visitor.answering.release()

    def _turn(
        self,
        question: str,
        turns: list[Turn],
        index: str,
        visitor: Visitor,
        k: int,
        n_decoder: int,
        method: str,
        reader: str,
        max_new_tokens: int,
        temperature: float,
    ) -> Iterator[tuple[Any, ...]]:
        visitor.cancel.clear()
        readers: list[ReaderName] = [each for each in READERS if reader in (each, BOTH)]
        turn = Turn(question=question, index=index, replies=[Reply(reader=each) for each in readers])
        waiting = f"Searching “{index}” and reading {k} passages …"
        busy = gr.Textbox(value="", submit_btn=False, stop_btn="Stop")
        shown = markup.turn_html(len(turns), turn, waiting)
        yield (gr.skip() if turns else ""), shown, gr.skip(), busy
        options = {
            "history": messages(turns, index),
            "k": int(k),
            "n_decoder": int(n_decoder),
            "retriever": method,
            "max_new_tokens": int(max_new_tokens),
            "temperature": temperature,
        }
        for place, each in enumerate(readers):
            for reply in self._replies(question, index, each, visitor, options):
                turn = _with_reply(turn, place, reply)
                yield gr.skip(), markup.turn_html(len(turns), turn, waiting), gr.skip(), gr.skip()
        turns = load_turns(dump_turns([*turns, turn]))
        yield markup.conversation(turns), "", dump_turns(turns), gr.Textbox(submit_btn="Ask", stop_btn=False)

    def _replies(
        self, question: str, index: str, reader: ReaderName, visitor: Visitor, options: dict[str, Any]
    ) -> Iterator[Reply]:
        text = ""
        cancel = visitor.cancel
        try:
            own = index == OWN_FILES and visitor.names
            rag = self.indexes.open_folder(visitor.index) if own else self.indexes.open(index)
            for event in stream_answer(rag, self.indexes.turn, question, cancel, reader=reader, why=True, **options):
                if isinstance(event, str):
                    text += event
                    yield Reply(reader=reader, text=text)
                else:
                    yield whole_reply(reader, event)
                    return
            yield Reply(reader=reader, finished=True, stopped=True)
        except RagxError as error:
            yield Reply(reader=reader, finished=True, error=f"{error}.")
        except Exception:
            logging.getLogger("ragx").exception("an answer failed")
            yield Reply(reader=reader, finished=True, error=DEFECT)

    def stop(self, request: gr.Request) -> None:
        """End the answer where it is."""
        self.visitor(request).cancel.set()

    def add_files(
        self,
        files: list[str],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by this default)
    ) -> tuple[str, Any]:
        """Index uploaded files for this visitor: what became of them, and the indexes to choose from."""
        visitor = self.visitor(request)
        uploaded = [Path(file) for file in files or []]

        def show(done: int, total: int) -> None:
            progress((done, total), desc="indexing", unit="passages")

        progress(0, desc="reading")
        try:
            report = visitor.add(uploaded, self.indexes.encoder, show)
        except RagxError as error:
            return markup.upload_error(str(error)), gr.skip()
        finally:
            for path in uploaded:
                path.unlink(missing_ok=True)
        self.indexes.close(visitor.index)
        skipped = [f"{Path(each.source).name}: {each.reason}" for each in report.skipped]
        return markup.upload_report(visitor.names, report.counts.passages, skipped), gr.Dropdown(
            self.choices(request), value=OWN_FILES
        )


def _with_reply(turn: Turn, place: int, reply: Reply) -> Turn:
    replies = [*turn.replies[:place], reply, *turn.replies[place + 1 :]]
    return turn.model_copy(update={"replies": replies})


def build_page(indexes: Indexes, uploads: Path) -> gr.Blocks:
    """The page over these indexes; visitors' files lie in the folder `uploads`."""
    page = Page(indexes, uploads)
    name = indexes.first.name
    with Blocks(title="ragx", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        kept = gr.BrowserState([], storage_key="ragx-chat", secret="ragx-chat")  # noqa: S106  (the page's own, no secret)
        with gr.Sidebar(label="Settings", open=False, elem_id="settings"):
            gr.HTML("<h2>Settings</h2>")
            index = gr.Dropdown([name], value=name, label="Index", info="What is asked.")
            add = gr.UploadButton(
                "Ask your own files", file_count="multiple", file_types=list(TYPES), size="sm", elem_id="add-files"
            )
            added = gr.HTML(markup.UPLOAD_HINT, elem_id="added")
            reader = gr.Radio(
                [("CEPE", "cepe"), ("Full prompt", "full"), ("Side by side", BOTH)],
                value="cepe",
                label="Reader",
                info="CEPE encodes all passages; the full prompt holds as many as fit.",
            )
            method = gr.Dropdown([*METHODS], value="hybrid", label="Retriever")
            k = gr.Slider(1, 200, 60, step=1, label="Passages read")
            n_decoder = gr.Slider(0, 20, 10, step=1, label="In the prompt")
            length = gr.Slider(16, 1024, 256, step=16, label="Longest answer, in tokens")
            temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0 always takes the likeliest word.")
        with gr.Row(elem_id="head"):
            head = gr.HTML(markup.head(name, indexes.notes))
            new = gr.Button("New chat", size="sm", scale=0, min_width=100)
        with gr.Column(elem_id="thread"):
            past = gr.HTML(markup.EMPTY, elem_id="past")
            current = gr.HTML("", elem_id="current")
            with gr.Row(elem_id="examples", visible=name in EXAMPLES) as fitting:
                examples = [gr.Button(each, size="sm", elem_classes="example") for each in EXAMPLES.get(name, [])]
        with gr.Row(elem_id="ask"):
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
        offer(api.ask_with(indexes), api_name="ask")  # the first to take this name
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        settings = [kept, index, k, n_decoder, method, reader, length, temperature]
        shown = [past, current, kept, question]
        blocks.load(page.arrive, [kept], [index, past], **hidden)
        question.submit(page.ask, [question, *settings], shown, trigger_mode="once", **hidden)
        for example in examples:
            example.click(page.ask, [example, *settings], shown, trigger_mode="once", **hidden)
        index.change(
            lambda chosen: (markup.head(chosen, indexes.notes), gr.Row(visible=chosen in EXAMPLES)),
            [index],
            [head, fitting],
            **hidden,
        )
        question.stop(page.stop, queue=False, **hidden)
        new.click(lambda: (markup.EMPTY, "", []), outputs=[past, current, kept], **hidden)
        add.upload(page.add_files, [add], [added, index], api_visibility="private", show_progress_on=added)
        blocks.unload(page.leave)
    blocks.queue(max_size=64, default_concurrency_limit=16)
    return blocks  # type: ignore[no-any-return]  # a context manager without types
