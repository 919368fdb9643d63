"""The command line: `ragx ask`, `search`, `index`, `models`, `eval`, `doctor`, and what the entry points add.

Answers go to stdout, progress and warnings to stderr. Exit codes: see `ragx.errors`. Heavy imports happen inside the
commands, so that `ragx --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ragx.errors import ConfigError, RagxError
from ragx.evaluation.commands import app as eval_app
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
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, auto (all GPUs); default: a GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")]
Bits = Annotated[int | None, typer.Option(help="4 or 8 hold the decoder in so many bits (bitsandbytes).")]
Reader = Annotated[str | None, typer.Option("--model", help="Decoder or CEPE reader: a name, a folder or a Hub id.")]
CacheSize = Annotated[float, typer.Option(min=0, help="GB of passage encodings kept on disk.")]
Encodings = Annotated[str, typer.Option(help="How they are kept: bfloat16, or int8 in half the space.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class _Interrupted(RagxError):
    exit_code = 130


class _Group(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
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
index_app = typer.Typer(no_args_is_help=True, help="Build and look after indexes.")
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
    n_decoder: Annotated[int, typer.Option(help="How many of them also stand in the decoder's prompt.")] = 10,
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
    device: Device = None,
    dtype: Dtype = "auto",
    bits: Bits = None,
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Answer a question from an index, with citations."""
    from ragx import display
    from ragx.models import resolve
    from ragx.rag import DEFAULT_MODEL, RAG, check_question

    check_question(question, k, n_decoder, reader, retriever)
    method: Any = retriever  # checked above
    way: Any = attend  # checked by from_index, as is the next
    kept: Any = encodings
    resolve(model or DEFAULT_MODEL)  # a download shows its own progress
    with waiting("loading models …"):
        rag = RAG.from_index(
            index,
            model=model or DEFAULT_MODEL,
            retriever=method,
            attend=way,
            cache_size=cache_size,
            encodings=kept,
            device=device,
            dtype=dtype,
            bits=bits,
        )
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
    if as_json:
        print(display.hits_json(question, hits))
    elif hits:
        print(display.hit_list(hits))
    else:
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
    encode: Annotated[bool, typer.Option("--encode", help="Then encode all passages, as `index encode` does.")] = False,
    model: Reader = None,
    cache_size: CacheSize = 4.0,
    encodings: Encodings = "bfloat16",
    device: Device = None,
    dtype: Dtype = "auto",
    bits: Bits = None,
    offline: Offline = False,
) -> None:
    """Index files: text, Markdown, HTML, PDF, Word, JSON lines, Parquet, DPR passages, MediaWiki dumps."""
    from ragx.config import IndexSettings, load_settings
    from ragx.indexing import build
    from ragx.rag import default_index
    from ragx.retrieval import read_manifest

    given = {"encoder": encoder, "faiss": faiss, "shard_size": shard_size, "include": include, "exclude": exclude}
    settings = load_settings(
        IndexSettings,
        recipe,
        [
            *(f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None),
            *(_setting(path) for path in paths or [] if path.startswith("--")),
        ],
    )
    sources = [path for path in paths or [] if not path.startswith("--")]
    for path in sources:
        if path.startswith("-"):
            raise ConfigError(f"unknown option {path}; a path that begins with - is written ./{path}")
    folder = out or default_index()
    with contextlib.suppress(RagxError):  # no index there yet
        held = [str(source) for source in read_manifest(folder).settings.sources]
        if held != [*sources, *map(str, settings.sources)]:
            notice(f"{folder} was built from {', '.join(held)}: this build replaces it once it is whole")
    reader = _encoding_reader(model, cache_size, encodings, device, dtype, bits) if encode else None
    report = build(sources, folder, settings, strict=strict, device=device, dtype=dtype)
    for skipped in report.skipped:
        notice(f"skipped {skipped.source}: {skipped.reason}")
    notice(
        f"{report.counts.documents} documents, {report.counts.passages} passages indexed in {folder}"
        f" ({report.counts.duplicates} duplicate and {report.counts.empty} empty passages dropped)"
    )
    if reader is not None:
        _encode(folder, reader)
    if report.skipped:
        raise typer.Exit(3)


@index_app.command("encode")
def index_encode(
    index: IndexFolder = None,
    model: Reader = None,
    cache_size: CacheSize = 4.0,
    encodings: Encodings = "bfloat16",
    device: Device = None,
    dtype: Dtype = "auto",
    bits: Bits = None,
    offline: Offline = False,
) -> None:
    """Encode an index's passages ahead of time, so that `ask` finds them on disk; continues where it was stopped."""
    from ragx.rag import default_index

    _encode(index or default_index(), _encoding_reader(model, cache_size, encodings, device, dtype, bits))


def _encoding_reader(
    model: str | None, cache_size: float, encodings: str, device: str | None, dtype: str, bits: int | None
) -> Any:
    from ragx.encoding import open_encoding_reader
    from ragx.models import resolve
    from ragx.rag import DEFAULT_MODEL

    resolve(model or DEFAULT_MODEL)  # a download shows its own progress
    with waiting("loading models …"):
        return open_encoding_reader(
            model or DEFAULT_MODEL,
            cache_size=cache_size,
            encodings=encodings,
            device=device,
            dtype=dtype,
            bits=bits,
        )


def _encode(folder: Path, reader: Any) -> None:
    from ragx.encoding import encode_index

    filled = encode_index(folder, reader)
    notice(f"{filled.encoded} passages encoded, {filled.present} were on disk already")
    if not filled.complete:
        notice("not all of them fit on disk: `ask` encodes the rest when it needs them; a larger --cache-size may help")


def _setting(argument: str) -> str:
    if "=" not in argument:
        raise ConfigError(f"unknown option {argument}; see `ragx index build --help`, settings are --a.b=value")
    return argument


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
    print(display.report(info))


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


@models_app.command("quantize")
def models_quantize(
    reader: Annotated[Path, typer.Argument(help="The folder of a trained reader.")],
    out: Annotated[Path, typer.Argument(help="Where the smaller one is written.")],
) -> None:
    """Write a trained reader's added weights in int8, a quarter of their size."""
    from ragx.cepe.added_weights import quantize_reader

    quantize_reader(reader, out)
    print(out)


@app.command()
def doctor(
    as_json: Json = False,
    offline: Offline = False,
) -> None:
    """Say what this machine has, which models and indexes are there, and what a default `ask` would use."""
    from ragx import display
    from ragx.doctor import report

    findings = report()
    if as_json:
        print(json.dumps(findings, indent=2))
        return
    print(display.report(findings))


def main() -> None:
    """Run the CLI; a user's mistake is one line on stderr and an exit code, never a traceback."""
    for command in entry_points(group="ragx.commands"):
        command.load()(app)
    try:
        app()
        sys.stdout.flush()
    except RagxError as error:
        notice(f"ragx: {error}")
        sys.exit(error.exit_code)
