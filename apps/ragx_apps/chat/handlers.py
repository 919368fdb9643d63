"""What the page's controls do."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gradio as gr

from ragx.errors import ConfigError, RagxError
from ragx.rag import RAG
from ragx.reader.citations import without_marks
from ragx.types import Answer, Passage, ReaderName
from ragx_apps.chat import markup
from ragx_apps.chat.chats import Chats, dump_chats, load_chats
from ragx_apps.chat.conversation import Reply, Turn, messages, source, whole_reply
from ragx_apps.chat.examples import SHOWN, example_questions
from ragx_apps.chat.feedback import write_feedback
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.pdf_page import draw_page
from ragx_apps.chat.progress import Progress
from ragx_apps.chat.settings import Settings
from ragx_apps.chat.uploads import Visitor
from ragx_apps.queue import QuestionQueue, Waiting

OWN_FILES = "your files"
"""The name of a visitor's private index."""
ANOTHER_TEMPERATURE = 0.7
"""The lowest temperature of another answer to the same question, which would be the same at 0."""
BUG = "This answer failed because of a bug in ragx; see the server log."
BUSY = "Stop the answer first."
SAME: Any = {"__type__": "update"}
"""Gradio's value for a part of the page that stays as it is (`gr.skip()`)."""


class View(NamedTuple):
    """What is on the page, in the order of `page.py`'s parts; anything left out stays as it is."""

    past: Any = SAME
    """The turns before the one in progress, as HTML."""
    current: Any = SAME
    """The turn in progress."""
    found: Any = SAME
    """The passages that it reads."""
    kept: Any = SAME
    """The conversations for the browser to store."""
    chats: Any = SAME
    """The list of them."""
    name: Any = SAME
    """The open one's name."""
    question: Any = SAME
    """The box for questions."""


class Handlers:
    """Those of all visitors."""

    def __init__(self, indexes: Indexes, queue: QuestionQueue, uploads: Path, feedback: Path | None = None) -> None:
        """`uploads`: a private folder, in which each visitor gets one; `feedback`: the file for ratings."""
        self.indexes, self.queue, self.uploads, self.feedback = indexes, queue, uploads, feedback
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

    def arrive(self, kept: Any, request: gr.Request) -> tuple[Any, ...]:
        """On opening the page, show the indexes to choose from and the conversation that was open."""
        choices = self.choices(request)
        return gr.Dropdown(choices, value=choices[0]), *self._view(load_chats(kept))

    def choose_index(self, index: str, request: gr.Request) -> list[Any]:
        """The head, and questions to begin with."""
        try:
            questions = example_questions(self._rag(index, self.visitor(request)))
        except RagxError:  # asking it says why
            questions = []
        shown = [gr.Button(each, visible=True) for each in questions]
        hidden = [gr.Button(visible=False)] * (SHOWN - len(shown))
        return [markup.head(index, self.indexes.model, self.indexes.notes), *shown, *hidden]

    def ask(self, request: gr.Request, question: str, kept: Any, *controls: Any) -> Iterator[View]:
        """Stream an answer."""
        chats = load_chats(kept)
        yield from self._answer(request, question.strip(), chats, chats.turns, Settings(*controls))

    def ask_again(self, request: gr.Request, kept: Any, *controls: Any) -> Iterator[View]:
        """Stream another answer to the last question in place of the first."""
        chats = load_chats(kept)
        *before, last = chats.turns or [Turn(question="", index="")]
        settings = Settings(*controls)
        settings = replace(settings, temperature=max(settings.temperature, ANOTHER_TEMPERATURE))
        yield from self._answer(request, last.question, chats, before, settings)

    def _answer(
        self, request: gr.Request, question: str, chats: Chats, turns: list[Turn], settings: Settings
    ) -> Iterator[View]:
        visitor = self.visitor(request)
        if not question or not visitor.answering.acquire(blocking=False):  # one answer at a time
            yield View()
            return
        try:
            yield from self._turn(visitor, question, chats, turns, settings)
        finally:
            visitor.answering.release()

    def _turn(
        self, visitor: Visitor, question: str, chats: Chats, turns: list[Turn], settings: Settings
    ) -> Iterator[View]:
        visitor.cancel = threading.Event()  # a stopped answer may still be ending
        options = {**settings.options, "history": messages(turns, settings.index)}
        turn = Turn(question=question, index=settings.index, replies=[Reply(reader=each) for each in settings.readers])
        progress = Progress(settings.index)
        past = self._conversation(turns) if turns else ""
        line = progress.line
        shown = markup.turn_html(len(turns), turn, waiting=line)
        yield View(past, shown, question=gr.Textbox(value="", submit_btn=False, stop_btn="Stop"))
        has_found = False
        for place, each in enumerate(settings.readers):
            for reply in self._replies(visitor, turn, each, options, progress):
                before = turn, line
                turn, line = _with_reply(turn, place, reply), progress.line
                current = SAME if before == (turn, line) else markup.turn_html(len(turns), turn, waiting=line)
                found = SAME
                if progress.hits and not has_found:
                    has_found = True
                    found = markup.found([source(hit) for hit in progress.hits], len(progress.hits))
                yield View(current=current, found=found)
        yield self._view(chats.with_turns([*turns, turn]))

    def _replies(
        self, visitor: Visitor, turn: Turn, reader: ReaderName, options: dict[str, Any], progress: Progress
    ) -> Iterator[Reply]:
        """The reply as it grows."""
        text = ""
        try:
            rag = self._rag(turn.index, visitor)
            ask = partial(
                rag.ask,
                turn.question,
                reader=reader,
                attention_shares=True,
                marks=True,
                on_hits=progress.found,
                on_encoded=progress.encoded,
                **options,
            )
            for event in self.queue.stream(ask, visitor.cancel):
                if isinstance(event, Answer):
                    yield whole_reply(reader, event)
                    return
                if isinstance(event, Waiting):
                    yield Reply(reader=reader, ahead=event.ahead)
                else:
                    text += event
                    yield Reply(reader=reader, text=text)
            yield Reply(reader=reader, text=without_marks(text), finished=True, stopped=True)
        except RagxError as error:
            yield Reply(reader=reader, finished=True, error=f"{error}.")
        except Exception:
            logging.getLogger("ragx").exception("an answer failed")
            yield Reply(reader=reader, finished=True, error=BUG)

    def stop(self, request: gr.Request) -> None:
        """Stop the answer."""
        self.visitor(request).cancel.set()

    def new_chat(self, request: gr.Request, kept: Any) -> View:
        """Begin a conversation."""
        return self._changed(request, kept, load_chats(kept).opened(""))

    def open_chat(self, request: gr.Request, id: str, kept: Any) -> View:
        """Show another conversation."""
        return self._changed(request, kept, load_chats(kept).opened(id))

    def rename_chat(self, request: gr.Request, name: str, kept: Any) -> View:
        """Name the open conversation."""
        return self._changed(request, kept, load_chats(kept).renamed(name))

    def delete_chat(self, request: gr.Request, kept: Any) -> View:
        """Delete the open conversation."""
        return self._changed(request, kept, load_chats(kept).deleted())

    def _changed(self, request: gr.Request, kept: Any, chats: Chats) -> View:
        if self.visitor(request).answering.locked():  # it would write over the change
            gr.Info(BUSY)
            chats = load_chats(kept)
            return View(chats=_choice(chats), name=chats.name)
        return self._view(chats)

    def _view(self, chats: Chats) -> View:
        kept = dump_chats(chats)
        chats = load_chats(kept)
        box = gr.Textbox(submit_btn="Ask", stop_btn=False)
        return View(self._conversation(chats.turns), "", "", kept, _choice(chats), chats.name, box)

    def _conversation(self, turns: Sequence[Turn]) -> str:
        return markup.conversation(turns, can_rate=self.feedback is not None)

    def rate(self, request: gr.Request, place: str, rating: Literal["good", "bad"], kept: Any) -> Any:
        """Note what a visitor thinks of an answer, at `place`, such as "0.1": the second reply of the first turn."""
        chats = load_chats(kept)
        try:
            number, at = map(int, place.split("."))
            turn = chats.turns[number]
            reply = turn.replies[at].model_copy(update={"rating": rating})
        except (ValueError, IndexError):  # not from this page
            return SAME
        if self.feedback is None or rating not in ("good", "bad"):
            return SAME
        if self.visitor(request).answering.locked():  # it would write over the rating
            gr.Info(BUSY)
            return SAME
        cited = [each.place for each in reply.sources if each.cited]
        try:
            write_feedback(
                self.feedback,
                rating=rating,
                question=turn.question,
                answer=reply.text,
                index=turn.index,
                model=self.indexes.model,
                reader=reply.reader,
                cited=cited,
            )
        except RagxError as error:
            raise gr.Error(f"{error}.", print_exception=False) from None
        turns = [*chats.turns]
        turns[number] = _with_reply(turn, at, reply)
        return dump_chats(chats.with_turns(turns))

    def show_page(self, request: gr.Request, place: str, kept: Any) -> str:
        """The page of the PDF file on which a source stands: that at `place`, such as "0.1.5"."""
        try:
            number, at, rank = map(int, place.split("."))
            turn = load_chats(kept).turns[number]
            passage = self._passage(turn.index, turn.replies[at].sources[rank].id, self.visitor(request))
        except (ValueError, IndexError):  # not from this page
            return ""
        except RagxError as error:
            raise gr.Error(f"{error}.", print_exception=False) from None
        return markup.pdf_page(passage, draw_page(Path(passage.source), passage.page))

    def _passage(self, index: str, id: str, visitor: Visitor) -> Passage:
        """A passage that this visitor may see. The browser names it; file and page come from the index."""
        rag = self._rag(index, visitor)
        retriever = rag.retriever
        selected = retriever.select(rag.where)
        for row in retriever.index.find([id]).values():
            if selected is None or selected[row]:
                return retriever.index.passage(row)
        raise ConfigError("this passage is no longer in the index")

    def _rag(self, index: str, visitor: Visitor) -> RAG:
        if index == OWN_FILES and visitor.names:
            return self.indexes.open_folder(visitor.index)
        return self.indexes.open(index)

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


def _choice(chats: Chats) -> Any:
    choices = [(chat.name, chat.id) for chat in chats.chats]
    return gr.Radio(choices, value=chats.open or None, visible=bool(choices))


def _with_reply(turn: Turn, place: int, reply: Reply) -> Turn:
    replies = [*turn.replies[:place], reply, *turn.replies[place + 1 :]]
    return turn.model_copy(update={"replies": replies})
