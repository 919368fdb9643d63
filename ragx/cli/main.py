"""The command line: `ragx ask`, `search`, `index`, `models`, `eval`, `doctor`, and what the entry points add.

Answers go to stdout, progress and warnings to stderr. Exit codes: see `ragx.errors`. Heavy imports happen inside the
commands, so that `ragx --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ragx.cli.eval import app as eval_app
from ragx.cli.index import app as index_app
from ragx.cli.options import (
    Address,
    Bits,
    CacheSize,
    Device,
    Dtype,
    Encodings,
    Engine,
    IndexFolder,
    Json,
    Offline,
    Reader,
)
from ragx.cli.setup import connected, open_rag
from ragx.errors import ConfigError, RagxError
from ragx.util.terminal import notice, plain, waiting


class _Interrupted(RagxError):
    exit_code = 130


class _Group(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (KeyboardInterrupt, typer.Abort):  # Abort: at a prompt, where the end of the input is one too
            raise _Interrupted("interrupted") from None
        except BrokenPipeError:  # the reader of our output has gone, as with `| head`: nothing is wrong
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise RagxError(f"cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror}") from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(no_args_is_help=True, help="Models by name.")
app.add_typer(index_app, name="index")
app.add_typer(models_app, name="models")
app.add_typer(eval_app, name="eval")


def _version(value: bool) -> None:
    if value:
        from ragx import __version__

        print(f"ragx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Answer questions over a large corpus by reading many passages cheaply."""


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    index: IndexFolder = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Passages to retrieve and read.")] = 60,
    prompt_passages: Annotated[int, typer.Option(help="How many of them also stand in the decoder's prompt.")] = 10,
    reader: Annotated[str, typer.Option(help="cepe, or full: all k passages in the prompt.")] = "cepe",
    retriever: Annotated[str, typer.Option(help="dense, bm25 or hybrid.")] = "hybrid",
    model: Reader = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where an answer that does not end is cut.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 decodes greedily.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens of this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Sample from so many of the likeliest tokens; 0: all.")] = 0,
    min_p: Annotated[float, typer.Option(help="Sample from tokens this share as likely as the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1, repeated tokens become less likely.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer; may repeat.")] = None,
    attend: Annotated[str, typer.Option(help="How decoding attends: auto, project, cached or latent.")] = "auto",
    cache_size: CacheSize = 4.0,
    encodings: Encodings = "bfloat16",
    why: Annotated[bool, typer.Option("--why", help="Show each passage's share of the attention.")] = False,
    engine: Engine = "local",
    address: Address = None,
    device: Device = None,
    dtype: Dtype = "auto",
    bits: Bits = None,
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Answer a question from an index, with citations."""
    from ragx.cli import render as display
    from ragx.rag import check_question

    check_question(question, k, prompt_passages, reader, retriever)
    with contextlib.ExitStack() as stack:
        spread = stack.enter_context(connected(engine, address))
        rag = open_rag(
            index,
            model,
            retriever=retriever,
            attend=attend,
            cache_size=cache_size,
            encodings=encodings,
            device=device,
            dtype=dtype,
            bits=bits,
        )
        rag.retriever = spread(rag.retriever)
        done_waiting = stack.enter_context(waiting(f"reading {k} passages …"))

        def show(text: str) -> None:
            done_waiting()
            if not as_json:
                sys.stdout.write(plain(text))
                sys.stdout.flush()

        answer = rag.ask(
            question,
            k=k,
            prompt_passages=prompt_passages,
            reader=reader,  # type: ignore[arg-type]  # checked above
            why=why,
            on_text=show,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=tuple(stop or ()),
        )
    if as_json:
        print(display.answer_json(question, answer))
    else:
        print(f"\n\n{display.sources(answer)}")
        if why:
            print(f"\n{display.shares(answer)}")
    for note in answer.notes:
        notice(note)
    notice(display.timings(answer))


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to look for.")],
    index: IndexFolder = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many passages to show.")] = 10,
    retriever: Annotated[str, typer.Option(help="dense, bm25 or hybrid.")] = "hybrid",
    engine: Engine = "local",
    address: Address = None,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Show the passages an index holds for a question."""
    from ragx.cli import render as display
    from ragx.rag import check_search, open_retriever

    check_search(question, k, retriever)
    method: Any = retriever  # checked above
    with connected(engine, address) as spread:
        hits = spread(open_retriever(index, method=method, device=device, dtype=dtype)).search(question, k, method)
    for note in hits.notes:
        notice(note)
    if as_json:
        print(display.hits_json(question, hits))
    elif hits:
        print(display.hit_list(hits))
    else:
        notice("no passage matches")


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """List the models known by name, and which are on this machine."""
    from ragx.models import list_models

    rows = list_models()
    if as_json:
        print(
            json.dumps([{**asdict(row), "folder": str(row.folder) if row.folder else None} for row in rows], indent=2)
        )
        return
    for row in rows:
        size = f"{row.size / 1e6:,.0f} MB" if row.size else "-"
        print(f"{row.name:<24} {row.kind:<8} {size:>8}  {', '.join(row.sources)}")


@models_app.command("pull")
def models_pull(name: str, offline: Offline = False) -> None:
    """Fetch a model, check it and keep it."""
    from ragx.models import pull

    print(pull(name))


@models_app.command("path")
def models_path(name: str) -> None:
    """Print the folder of a model that is on this machine."""
    from ragx.models import resolve

    print(resolve(name, allow_download=False))


@models_app.command("quantize")
def models_quantize(
    reader: Annotated[Path, typer.Argument(help="The folder of a trained reader.")],
    out: Annotated[Path, typer.Argument(help="Where the smaller one is written.")],
    prompted_gain: Annotated[
        float, typer.Option(help="Scales what cross-attention adds beside passages in the prompt.")
    ] = 1.0,
) -> None:
    """Write a trained reader's added weights in int8, a quarter of their size."""
    from ragx.cepe.added_weights import quantize_reader

    quantize_reader(reader, out, prompted_gain)
    print(out)


@app.command()
def doctor(
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Say what this machine has, which models and indexes are there, and what a default `ask` would use."""
    from ragx.cli import render as display
    from ragx.cli.doctor import report

    findings = report()
    if as_json:
        print(json.dumps(findings, indent=2))
        return
    print(display.report(findings))


def _add(command: EntryPoint) -> None:
    """Add the command of an entry point, or one that says why it cannot be had: the others work without it."""
    try:
        command.load()(app)
    except (ImportError, AttributeError) as error:
        package = command.dist.name if command.dist else "ragx"
        extra = f"[{command.name}]" if package == "ragx" else ""
        mend = f"`ragx {command.name}` cannot be loaded ({error}): pip install '{package}{extra}'"

        @app.command(
            command.name, help=mend, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
        )
        def missing() -> None:
            raise ConfigError(mend)


def main() -> None:
    """Run the CLI; a user's mistake is one line on stderr and an exit code, never a traceback."""
    for command in entry_points(group="ragx.commands"):
        _add(command)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # what its encoding lacks becomes ?; stderr escapes it by itself
    try:
        app()
        sys.stdout.flush()
    except RagxError as error:
        notice(f"ragx: {error}")
        sys.exit(error.exit_code)
