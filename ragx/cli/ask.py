"""`ragx ask` and `ragx summarise`: answers from an index or from whole documents."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragx.cli.options import Address, Engine, IndexFolder, Json, Offline, on_command_line, with_settings
from ragx.config import ModelOptions, ReaderOptions, SamplingParams, SearchOptions
from ragx.errors import ConfigError
from ragx.util.settings import option_fields
from ragx.util.terminal import notice, plain, waiting

if TYPE_CHECKING:
    from ragx.corpus import Skipped
    from ragx.rag import RAG
    from ragx.types import Answer, Hit, Message, Passage

Question = Annotated[
    str | None,
    typer.Argument(
        help="The question; `-` reads it from standard input. Without one, a conversation begins on a terminal.",
        show_default=False,
    ),
]
Documents = Annotated[
    list[Path] | None,
    typer.Option("--document", metavar="FILE", help="Read this whole file, not an index; may be repeated."),
]
Examples = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="JSON lines with `question` and `answer`: demonstrations to imitate."),
]
NoIndex = Annotated[bool, typer.Option("--no-index", help="Answer without passages.")]


@with_settings
def ask(
    context: typer.Context,
    search: SearchOptions,
    reader_options: ReaderOptions,
    sampling: SamplingParams,
    models: ModelOptions,
    question: Question = None,
    document: Documents = None,
    examples: Examples = None,
    index: IndexFolder = None,
    no_index: NoIndex = False,
    engine: Engine = "local",
    address: Address = None,
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Answer a question, or hold a conversation, from an index or whole documents, with citations."""
    from ragx.cli.conversation import converse
    from ragx.cli.setup import opened_model, opened_rag
    from ragx.reader.conversation import question_text
    from ragx.reader.documents import read_files
    from ragx.reader.examples import read_examples
    from ragx.reader.registry import for_reader

    if question == "-":
        question = sys.stdin.read().strip() if sys.stdin else ""
    if question is not None:
        question_text(question)  # mistakes are reported before the models load
    elif not _on_terminal():
        raise ConfigError("the question is missing; `ragx ask -` reads it from standard input")
    elif as_json:
        raise ConfigError("json: a conversation is not printed as JSON; give the question, or `-` to read it")
    without_index = bool(document) or no_index
    if without_index and on_command_line(context, "index", "engine", *option_fields(SearchOptions)):
        option = "document" if document else "no_index"
        raise ConfigError(f"{option}: no index is searched, so leave out its name and the options of its search")
    documents, left_out = read_files(document) if document else ([], [])
    shown = read_examples(examples) if examples else []
    if question is None:
        _notice_left_out(left_out)
    models = for_reader(models, reader_options.reader).model_copy(update={"frugal": question is not None})
    opened = (
        opened_model(models) if without_index else opened_rag(index, models, search, engine=engine, address=address)
    )
    with opened as rag:
        fields = None if without_index else lambda passage: rag.retriever.named_fields(passage, search.where)
        settings = {"documents": documents, "examples": shown, "k": search.k}
        if question is None:

            def reply(asked: str, history: Sequence[Message], cancel: threading.Event) -> Answer:
                turn = {**settings, "history": history, "cancel": cancel}
                return _answer(rag, asked, reader_options, sampling, turn, as_json=False, fields=fields)

            converse(reply)
            return
        _answer(rag, question, reader_options, sampling, settings, as_json=as_json, fields=fields)
    _report(left_out)


@with_settings
def summarise(
    files: Annotated[list[Path], typer.Argument(help="Files of any format that `ragx index formats` lists.")],
    reader_options: ReaderOptions,
    sampling: SamplingParams,
    models: ModelOptions,
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Summarise whole documents."""
    from ragx.cli.setup import opened_model
    from ragx.reader.documents import read_files
    from ragx.reader.registry import for_reader
    from ragx.reader.task import SUMMARISE, SUMMARY

    documents, left_out = read_files(files)
    with opened_model(for_reader(models, reader_options.reader).model_copy(update={"frugal": True})) as rag:
        settings = {"documents": documents, "task": SUMMARY}
        _answer(rag, SUMMARISE, reader_options, sampling, settings, as_json=as_json)
    _report(left_out)


def _answer(
    rag: RAG,
    question: str,
    reader_options: ReaderOptions,
    sampling: SamplingParams,
    settings: dict[str, Any],
    *,
    as_json: bool,
    fields: Callable[[Passage], Mapping[str, object]] | None = None,
) -> Answer:
    """Ask, and print the answer as it is decoded, then its sources with their `fields`, and the notes."""
    from ragx.cli import render

    with waiting("reading …" if fields is None else "searching …") as wait_with:

        def show(text: str) -> None:
            wait_with("")
            if not as_json:
                sys.stdout.write(plain(text))
                sys.stdout.flush()

        found: list[Hit] = []

        def show_hits(hits: Sequence[Hit]) -> None:
            found[:] = hits
            wait_with(render.reading(hits))

        def show_progress(done: int, total: int) -> None:
            wait_with(f"encoding passages: {done} of {total}" if done < total else render.reading(found))

        options = {**reader_options.model_dump(), "marks": True}
        answer = rag.ask(
            question,
            **options,
            sampling=sampling,
            on_hits=show_hits,
            on_encoded=show_progress,
            on_text=show,
            **settings,
        )
    if as_json:
        print(render.answer_json(question, answer))
    else:
        stopped = answer.finish == "cancelled"
        print(f"\n\n{render.sources(answer, fields)}" if answer.citations or (answer.hits and not stopped) else "")
        if reader_options.attention_shares:
            print(f"\n{render.attention_shares(answer)}")
    for note in answer.notes:
        notice(note)
    notice(render.timings(answer))
    if faster := render.faster(answer, searched=fields is not None):
        notice(faster)
    return answer


def _on_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _notice_left_out(left_out: Sequence[Skipped]) -> None:
    from ragx.reader.documents import left_out_note

    for note in left_out_note(left_out):
        notice(note)


def _report(left_out: Sequence[Skipped]) -> None:
    """Say what was left out of documents; the command then ends as an index build does."""
    _notice_left_out(left_out)
    if left_out:
        raise typer.Exit(3)
