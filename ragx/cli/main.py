"""The command line: `ragx ask`, `summarise`, `search`, `watch`, `index` and more, and those of entry points.

Answers go to stdout, progress and warnings to stderr. Exit codes: see `ragx.errors`. Heavy imports happen inside the
commands, so that `ragx --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from contextlib import ExitStack
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
import typer.core
from typer.exceptions import TyperException

from ragx.cli.ask import ask, summarise
from ragx.cli.config import app as config_app
from ragx.cli.defaults import check, config_file, read_values, use_defaults
from ragx.cli.eval import app as eval_app
from ragx.cli.index import app as index_app
from ragx.cli.models import app as models_app
from ragx.cli.options import MODEL, Address, Device, Dtype, Engine, IndexFolder, Json, Offline, setting, with_settings
from ragx.cli.watch import watch
from ragx.config import ModelOptions, SearchOptions
from ragx.errors import ConfigError, RagxError
from ragx.util.settings import checked
from ragx.util.terminal import notice, report_error, set_quiet

SHOWN = SearchOptions(k=10)
"""Defaults of `ragx search`."""


class _Interrupted(RagxError):
    exit_code = 130


class _Group(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (KeyboardInterrupt, typer.Abort):  # Abort: Ctrl-C or end of input at a prompt
            raise _Interrupted("interrupted") from None
        except BrokenPipeError:  # the consumer has closed the pipe, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise RagxError(f"cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror}") from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(index_app, name="index")
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")
app.add_typer(eval_app, name="eval")


def _version(value: bool) -> None:
    if value:
        from ragx import __version__

        print(f"ragx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results and errors: no progress, no notices.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what happens, with times, on stderr.")] = False,
) -> None:
    """Answer questions over a large corpus by reading many passages cheaply."""
    if quiet and verbose:
        raise ConfigError("give either --quiet or --verbose")
    set_quiet(quiet)
    if quiet:
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")  # both are read on import
    if verbose:
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    if context.invoked_subcommand != "config":  # which can mend the file
        use_defaults(context)


app.command()(ask)
app.command()(summarise)
app.command("summarize", hidden=True)(summarise)
app.command()(watch)


@app.command()
@with_settings
def search(
    question: Annotated[str, typer.Argument(help="The question.")],
    options: SearchOptions = SHOWN,
    index: IndexFolder = None,
    model: Annotated[
        str, typer.Option(help="With --effort high: what splits the question, as in `ragx ask`.", rich_help_panel=MODEL)
    ] = ModelOptions().model,
    base_url: Annotated[str | None, setting(ModelOptions, "base_url")] = None,
    engine: Engine = "local",
    address: Address = None,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Show the best passages for a question."""
    from ragx.cli import render
    from ragx.cli.setup import connected, open_search, opened_model
    from ragx.reader.conversation import question_text
    from ragx.reader.reranking import open_reranker
    from ragx.reader.splitting import split_question
    from ragx.retrieval import search_with_effort
    from ragx.retrieval.rerankers import search_reranked

    text = question_text(question)
    models = checked(ModelOptions, {"model": model, "base_url": base_url, "device": device, "dtype": dtype})
    with connected(engine, address), ExitStack() as stack:
        retriever = open_search(index, device, dtype, method=options.method, engine=engine).retriever
        selected = retriever.select(options.where)
        reranker = open_reranker(options.rerank, device, retriever.index.manifest.embedder.name)
        readers = stack.enter_context(opened_model(models)).readers if options.effort == "high" else {}
        search = partial(
            search_with_effort,
            retriever,
            [text],
            effort=options.effort,
            method=options.method,
            selected=selected,
            split=partial(split_question, readers),
        )
        hits = search_reranked(search, text, options.k, reranker)
    for note in hits.notes:
        notice(note)
    if as_json:
        print(render.hits_json(question, hits))
    elif hits:
        print(render.hit_list(hits, lambda passage: retriever.named_fields(passage, options.where)))
    else:
        notice("no passage matches")


@app.command()
def doctor(
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Show hardware, packages, models, indexes, and the defaults of `ask`."""
    from ragx.cli import render
    from ragx.cli.doctor import report

    findings = report(check(read_values(config_file())))
    if as_json:
        print(json.dumps(findings, indent=2))
        return
    print(render.report(findings))


def _add(command: EntryPoint) -> None:
    """Add the command of an entry point, or a stub that reports why it cannot be loaded."""
    try:
        command.load()(app)
    except (ImportError, AttributeError) as error:
        package = command.dist.name if command.dist else "ragx"
        extra = f"[{command.name}]" if package == "ragx" else ""
        message = f"`ragx {command.name}` cannot be loaded ({error}): pip install '{package}{extra}'"

        @app.command(
            command.name, help=message, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
        )
        def missing() -> None:
            raise ConfigError(message)


@cache
def _commands() -> Any:
    """All commands, with those of entry points."""
    for command in entry_points(group="ragx.commands"):
        _add(command)
    return typer.main.get_command(app)


def main() -> None:
    """Run the CLI; a user's mistake is one line on stderr and an exit code, never a traceback."""
    for stream in (sys.stdin, sys.stdout):
        # Python's own choices; "surrogateescape" in the C locale
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")  # unencodable characters become ?; stderr escapes them already
    try:
        code = _commands()(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except typer.BadParameter as error:
        report_error(f"ragx: {_bad_parameter(error)}")
        sys.exit(2)
    except TyperException as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    except RagxError as error:
        report_error(f"ragx: {error}")
        sys.exit(error.exit_code)


def _bad_parameter(error: typer.BadParameter) -> str:
    """The message of `ragx.util.settings.checked` for the same value."""
    if error.param is None or not error.message:
        return error.format_message()
    message = error.message.removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")
    return f"{error.param.name}: {message}"
