"""The command line: `ragx ask`, `search`, `index`, `models`, `doctor`, and what the entry points add.

Answers go to stdout, progress and warnings to stderr. Exit codes: see `ragx.errors`. Heavy imports happen inside the
commands, so that `ragx --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ragx.errors import RagxError
from ragx.terminal import notice, plain, waiting


def _go_offline(value: bool) -> bool:
    if value:
        os.environ.update(RAGX_OFFLINE="1", HF_HUB_OFFLINE="1")  # huggingface_hub reads its own when it is imported
    return value


Offline = Annotated[
    bool, typer.Option("--offline", callback=_go_offline, help="Never try the network (also RAGX_OFFLINE=1).")
]
IndexFolder = Annotated[
    Path | None, typer.Option("--index", help="The index folder. Default: RAGX_INDEX, or ragx's own default index.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …; default: a GPU where there is one.")]
Dtype = Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class _Interrupted(RagxError):
    exit_code = 130


class _Group(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted("interrupted") from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Answer questions over a large corpus by reading many passages cheaply.",
)
index_app = typer.Typer(no_args_is_help=True, help="Build and look after indexes.")
models_app = typer.Typer(no_args_is_help=True, help="Models by name.")
app.add_typer(index_app, name="index")
app.add_typer(models_app, name="models")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    index: IndexFolder = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Passages to retrieve and read.")] = 60,
    n_decoder: Annotated[int, typer.Option(help="How many of them also stand in the decoder's prompt.")] = 10,
    reader: Annotated[str, typer.Option(help="cepe, or full: all k passages in the prompt.")] = "cepe",
    retriever: Annotated[str, typer.Option(help="dense, bm25 or hybrid.")] = "hybrid",
    model: Annotated[str | None, typer.Option(help="Decoder or CEPE reader: a name, a folder or a Hub id.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where an answer that does not end is cut.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 decodes greedily.")] = 0.0,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Answer a question from an index, with citations."""
    from ragx import display
    from ragx.models import resolve
    from ragx.rag import DEFAULT_MODEL, RAG, check_question

    check_question(question, k, n_decoder, reader, retriever)
    method: Any = retriever  # checked above
    resolve(model or DEFAULT_MODEL)  # a download shows its own progress
    with waiting("loading models …"):
        rag = RAG.from_index(index, model=model or DEFAULT_MODEL, retriever=method, device=device, dtype=dtype)
    for note in rag.notes:
        notice(note)

    with waiting(f"reading {k} passages …") as done_waiting:

        def show(text: str) -> None:
            done_waiting()
            if not as_json:
                sys.stdout.write(plain(text))
                sys.stdout.flush()

        answer = rag.ask(
            question,
            k=k,
            n_decoder=n_decoder,
            reader=reader,  # type: ignore[arg-type]  # checked above
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            on_text=show,
        )
    if as_json:
        print(display.answer_json(question, answer))
    else:
        print(f"\n\n{display.sources(answer)}")
    for note in answer.notes:
        notice(note)
    notice(display.timings(answer))


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to look for.")],
    index: IndexFolder = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many passages to show.")] = 10,
    retriever: Annotated[str, typer.Option(help="dense, bm25 or hybrid.")] = "hybrid",
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Show the passages an index holds for a question."""
    from ragx import display
    from ragx.rag import check_search, open_retriever

    check_search(question, k, retriever)
    method: Any = retriever  # checked above
    hits = open_retriever(index, method=method, device=device, dtype=dtype).search(question, k, method)
    print(display.hits_json(question, hits) if as_json else display.hit_list(hits))
    if not hits:
        notice("no passage matches")


@index_app.command("build", context_settings={"ignore_unknown_options": True})
def index_build(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files and folders to read; and settings as --chunking.size=50.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The index folder. Default: as --index of `ragx ask`.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Settings, and maybe sources: a YAML file.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Sentence encoder: a name, a folder or a Hub id.")] = None,
    faiss: Annotated[str | None, typer.Option(help="FAISS factory string: Flat, HNSW32, IVF256,PQ32, …")] = None,
    shard_size: Annotated[int | None, typer.Option(min=1, help="Passages in a shard.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Glob of files to read in folders; may repeat.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Glob of files to leave out; may repeat.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
    device: Device = None,
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Index files: text, Markdown, HTML, PDF, Word, JSON lines, Parquet, DPR passages, MediaWiki dumps."""
    from ragx.config import IndexSettings, load_settings
    from ragx.indexing import build
    from ragx.rag import default_index

    given = {"encoder": encoder, "faiss": faiss, "shard_size": shard_size, "include": include, "exclude": exclude}
    settings = load_settings(
        IndexSettings,
        recipe,
        [
            *(f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None),
            *(path for path in paths or [] if path.startswith("--")),
        ],
    )
    sources = [path for path in paths or [] if not path.startswith("--")]
    folder = out or default_index()
    report = build(sources, folder, settings, strict=strict, device=device, dtype=dtype)
    for skipped in report.skipped:
        notice(f"skipped {skipped.source}: {skipped.reason}")
    notice(
        f"{report.counts.documents} documents, {report.counts.passages} passages indexed in {folder}"
        f" ({report.counts.duplicates} duplicate and {report.counts.empty} empty passages dropped)"
    )
    if report.skipped:
        raise typer.Exit(3)


@index_app.command("info")
def index_info(index: IndexFolder = None, as_json: Json = False) -> None:
    """Say what an index holds."""
    from ragx import display
    from ragx.rag import default_index
    from ragx.retrieval import read_manifest

    folder = index or default_index()
    info = display.index_info(folder, read_manifest(folder))
    if as_json:
        print(json.dumps(info, indent=2))
        return
    for key, value in info.items():
        print(f"{key + ':':<12} {plain(str(value))}")


@index_app.command("verify")
def index_verify(index: IndexFolder = None) -> None:
    """Check every file of an index against its checksum."""
    from ragx.rag import default_index
    from ragx.retrieval import verify

    folder = index or default_index()
    verify(folder)
    print(f"{folder}: every file is as it was written")


@index_app.command("rm")
def index_rm(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete an index."""
    from ragx.retrieval import remove

    if not yes:
        typer.confirm(f"Delete the index {index}?", abort=True, err=True)
    remove(index)


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


@app.command()
def doctor(
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Say what this machine has, which models and indexes are there, and what a default `ask` would use."""
    from ragx.doctor import report

    findings = report()
    if as_json:
        print(json.dumps(findings, indent=2))
        return
    for key, value in findings.items():
        print(f"{key + ':':<12} {plain(str(value))}")


def main() -> None:
    """Run the CLI; a user's mistake is one line on stderr and an exit code, never a traceback."""
    for command in entry_points(group="ragx.commands"):
        command.load()(app)
    try:
        app()
    except RagxError as error:
        notice(f"ragx: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
