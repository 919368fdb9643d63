"""The page: its layout and its event handlers."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import gradio as gr
from gradio.events import api as offer
from pydantic.dataclasses import dataclass

from ragx.config import PROMPT_PASSAGES, SamplingParams
from ragx.errors import RagxError
from ragx.types import Answer, ReaderName, SearchMethod
from ragx_apps.chat import api, markup
from ragx_apps.chat.conversation import Reply, Turn, dump_turns, load_turns, messages, whole_reply
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.serving import Blocks
from ragx_apps.chat.uploads import TYPES, Visitor
from ragx_apps.queue import QuestionQueue, Waiting

OWN_FILES = "your files"
"""The name of a visitor's private index."""
BOTH = "both"
READERS: dict[ReaderName, str] = {
    "cepe": "CEPE",
    "full": "Full prompt",
    "replug": "REPLUG",
    "streaming": "StreamingLLM",
    "extensible": "Extensible Embedding",
}
MAX_QUESTION = 4000
"""Characters."""
EXAMPLES = {
    "wikipedia-sample": [
        "Where was Andre Agassi born?",
        "Who wrote Animal Farm?",
        "When did Apollo 11 land on the Moon?",
    ]
}
"""Example questions, by index name."""
AT_A_TIME: dict[str, Any] = {"concurrency_id": "ask", "concurrency_limit": 64}
"""Questions in the queue at once; each occupies one of serving.py's `THREADS`."""
BUG = "This answer failed because of a bug in ragx; see the server log."


@dataclass(frozen=True)
class Settings:
    """A visitor's settings, in the order of the controls."""

    index: str
    k: int
    prompt_passages: int
    method: str
    reader: str
    """A reader's name, or `BOTH`."""
    max_new_tokens: int
    temperature: float

    @property
    def readers(self) -> list[ReaderName]:
        """The readers that answer, in turn."""
        if self.reader == BOTH:
            return ["cepe", "full"]
        return [each for each in get_args(ReaderName) if self.reader == each]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `RAG.ask`."""
        sampling = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        return {"k": self.k, "prompt_passages": self.prompt_passages, "method": self.method, "sampling": sampling}


class Page:
    """The event handlers, for all visitors."""

    def __init__(self, indexes: Indexes, queue: QuestionQueue, uploads: Path) -> None:
        """`uploads` is a private folder, in which each visitor gets a folder."""
        self.indexes, self.queue, self.uploads = indexes, queue, uploads
        self.visitors: dict[str, Visitor] = {}

    def visitor(self, request: gr.Request) -> Visitor:
        """The visitor of a request; each open page is one."""
        name = str(request.session_hash)
        if name not in self.visitors:
            self.visitors[name] = Visitor(self.uploads / secrets.token_hex(16))
        return self.visitors[name]

    def leave(self, request: gr.Request) -> None:
        """On closing the page, stop its answer and delete its files."""
        visitor = self.visitors.pop(str(request.session_hash), None)
        if visitor is not None:
            visitor.close()
            self.indexes.close(visitor.index)  # after its files: nobody opens it again

    def choices(self, request: gr.Request) -> list[str]:
        """Names of the indexes this visitor can ask."""
        own = [OWN_FILES] if self.visitor(request).names else []
        return [*self.indexes.folders(), *own]

    def arrive(self, kept: Any, request: gr.Request) -> tuple[Any, str]:
        """On opening the page, show the indexes to choose from and the conversation stored in the browser."""
        choices = self.choices(request)
        return gr.Dropdown(choices, value=choices[0]), markup.conversation(load_turns(kept))

    def ask(self, request: gr.Request, question: str, kept: Any, *controls: Any) -> Iterator[tuple[Any, ...]]:
        """Stream an answer; yields past turns, this turn, the turns to store, and the question box."""
        visitor = self.visitor(request)
        if not question.strip() or not visitor.answering.acquire(blocking=False):  # one answer at a time
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        try:
            yield from self._turn(visitor, question.strip(), load_turns(kept), Settings(*controls))
        finally:
            visitor.answering.release()

    def _turn(
        self, visitor: Visitor, question: str, turns: list[Turn], settings: Settings
    ) -> Iterator[tuple[Any, ...]]:
        visitor.cancel = threading.Event()  # a stopped answer may still be ending
        replies = [Reply(reader=each) for each in settings.readers]
        turn = Turn(question=question, index=settings.index, replies=replies)
        reading = f"Searching “{settings.index}” and reading {settings.k} passages …"
        busy = gr.Textbox(value="", submit_btn=False, stop_btn="Stop")
        yield (gr.skip() if turns else ""), markup.turn_html(len(turns), turn, reading), gr.skip(), busy
        options = {**settings.options, "history": messages(turns, settings.index)}
        for place, each in enumerate(settings.readers):
            for reply in self._replies(visitor, turn, each, options):
                grown = _with_reply(turn, place, reply)
                shown = gr.skip() if grown == turn else markup.turn_html(len(turns), grown, reading)
                turn = grown
                yield gr.skip(), shown, gr.skip(), gr.skip()
        turns = load_turns(dump_turns([*turns, turn]))
        yield markup.conversation(turns), "", dump_turns(turns), gr.Textbox(submit_btn="Ask", stop_btn=False)

    def _replies(self, visitor: Visitor, turn: Turn, reader: ReaderName, options: dict[str, Any]) -> Iterator[Reply]:
        text = ""
        try:
            own = turn.index == OWN_FILES and visitor.names
            rag = self.indexes.open_folder(visitor.index) if own else self.indexes.open(turn.index)
            ask = partial(rag.ask, turn.question, reader=reader, attention_shares=True, **options)
            for event in self.queue.stream(ask, visitor.cancel):
                if isinstance(event, Answer):
                    yield whole_reply(reader, event)
                    return
                if isinstance(event, Waiting):
                    yield Reply(reader=reader, ahead=event.ahead)
                else:
                    text += event
                    yield Reply(reader=reader, text=text)
            yield Reply(reader=reader, text=text, finished=True, stopped=True)
        except RagxError as error:
            yield Reply(reader=reader, finished=True, error=f"{error}.")
        except Exception:
            logging.getLogger("ragx").exception("an answer failed")
            yield Reply(reader=reader, finished=True, error=BUG)

    def stop(self, request: gr.Request) -> None:
        """Stop the answer."""
        self.visitor(request).cancel.set()

    def add_files(
        self,
        files: list[str],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by this default)
    ) -> tuple[str, Any]:
        """Index a visitor's uploaded files; returns a report and the indexes to choose from."""
        visitor = self.visitor(request)
        uploaded = [Path(file) for file in files or []]

        def show(done: int, total: int) -> None:
            progress((done, total), desc="indexing", unit="passages")

        progress(0, desc="reading")
        try:
            report = visitor.add(uploaded, self.indexes.embedder, show)
        except RagxError as error:
            return markup.upload_error(str(error)), gr.skip()
        finally:
            for path in uploaded:
                path.unlink(missing_ok=True)
        skipped = [
            f"{'Read in part:' if each.partial else 'Skipped'} {Path(each.source).name}: {each.reason}"
            for each in report.skipped
        ]
        return markup.upload_report(visitor.names, report.counts.passages, skipped), gr.Dropdown(
            self.choices(request), value=OWN_FILES
        )


def _with_reply(turn: Turn, place: int, reply: Reply) -> Turn:
    replies = [*turn.replies[:place], reply, *turn.replies[place + 1 :]]
    return turn.model_copy(update={"replies": replies})


def build_page(indexes: Indexes, queue: QuestionQueue, uploads: Path) -> gr.Blocks:
    """The page over these indexes; visitors' files are in the folder `uploads`."""
    page = Page(indexes, queue, uploads)
    name = indexes.first.name
    both = [("Side by side", BOTH)] if len(indexes.readers) > 1 else []
    with Blocks(title="ragx", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        kept = gr.BrowserState([], storage_key="ragx-chat", secret="ragx-chat")  # noqa: S106  (the page's own, no secret)
        with gr.Sidebar(label="Settings", open=False, elem_id="settings"):
            gr.HTML("<h2>Settings</h2>")
            index = gr.Dropdown([name], value=name, label="Index", info="The documents to ask.")
            add = gr.UploadButton(
                "Upload files", file_count="multiple", file_types=list(TYPES), size="sm", elem_id="add-files"
            )
            added = gr.HTML(markup.UPLOAD_HINT, elem_id="added")
            reader = gr.Radio(
                [*((READERS[each], each) for each in indexes.readers), *both],
                value=indexes.readers[0],
                label="Reader",
                info="CEPE encodes all passages; the full prompt holds as many as fit.",
                visible=bool(both),
            )
            method = gr.Dropdown([*get_args(SearchMethod)], value="hybrid", label="Search")
            k = gr.Slider(1, 200, 60, step=1, label="Passages read")
            prompt_passages = gr.Slider(0, 20, PROMPT_PASSAGES, step=1, label="Passages also shown to the decoder")
            length = gr.Slider(16, 1024, 256, step=16, label="Maximum answer length (tokens)")
            temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0 takes the most likely token.")
        with gr.Row(elem_id="head"):
            head = gr.HTML(markup.head(name, indexes.notes))
            gr.Button("Save", size="sm", scale=0, min_width=80, elem_id="save")
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
        offer(api.ask_with(indexes, queue), api_name="ask", **AT_A_TIME)  # the first to take this name
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        settings = [kept, index, k, prompt_passages, method, reader, length, temperature]
        shown = [past, current, kept, question]
        blocks.load(page.arrive, [kept], [index, past], **hidden)
        question.submit(page.ask, [question, *settings], shown, trigger_mode="once", **hidden, **AT_A_TIME)
        for example in examples:
            example.click(page.ask, [example, *settings], shown, trigger_mode="once", **hidden, **AT_A_TIME)
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
